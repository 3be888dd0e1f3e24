//! Who the command is and what the kernel lets it do.

use std::{fs, os::unix::fs::PermissionsExt};

use libtest_mimic::Failed;

use crate::{
    Test,
    launcher::{SECRET, STUB, Sandbox},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    (
        "has_no_capability_and_gains_none",
        has_no_capability_and_gains_none,
    ),
    (
        "is_the_user_that_was_asked_for",
        is_the_user_that_was_asked_for,
    ),
    ("is_the_caller_of_sudo", is_the_caller_of_sudo),
    (
        "has_the_path_of_the_caller_of_sudo",
        has_the_path_of_the_caller_of_sudo,
    ),
    (
        "is_denied_what_the_filter_denies",
        is_denied_what_the_filter_denies,
    ),
    (
        "cannot_change_the_machine_as_user_0",
        cannot_change_the_machine_as_user_0,
    ),
    ("inherits_no_descriptor", inherits_no_descriptor),
    (
        "holds_the_stub_and_never_the_secret",
        holds_the_stub_and_never_the_secret,
    ),
    (
        "refuses_a_secret_on_the_command_line",
        refuses_a_secret_on_the_command_line,
    ),
    ("common_runtimes_work", common_runtimes_work),
];

fn has_no_capability_and_gains_none() -> Result<(), Failed> {
    for options in ["", "--as nobody"] {
        let status = Sandbox::new()
            .option(options)
            .shell("cat /proc/self/status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let line = format!("{set}:\t0000000000000000");
            assert!(status.contains(&line), "{options} {status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
    Ok(())
}

fn is_the_user_that_was_asked_for() -> Result<(), Failed> {
    let id = Sandbox::new()
        .option("--as nobody")
        .shell("id -u; id -un; id -G; echo $USER $HOME");
    let nobody = nix::unistd::User::from_name("nobody")?.ok_or("there is no nobody")?;
    let expected = format!(
        "{}\nnobody\n{}\nnobody {}\n",
        nobody.uid,
        nobody.gid,
        nobody.dir.display()
    );
    assert_eq!(id, expected);
    Ok(())
}

fn is_the_caller_of_sudo() -> Result<(), Failed> {
    let sandbox = Sandbox::new()
        .variable("SUDO_UID", "54321")
        .variable("SUDO_GID", "54322");
    assert_eq!(
        sandbox.shell("id -u; id -g; id -G; env | grep -c SUDO || true"),
        "54321\n54322\n54322\n0\n"
    );
    Ok(())
}

/// sudo's own path is the one it was called with; what it starts gets another one.
fn has_the_path_of_the_caller_of_sudo() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let sudo = directory.path().join("sudo");
    let script =
        "#!/bin/bash\nenv PATH=/usr/bin:/bin SUDO_UID=54321 SUDO_GID=54321 \"$@\"; exit $?\n";
    fs::write(&sudo, script)?;
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755))?;
    let path = format!("/home/someone/bin:{}", std::env::var("PATH")?);
    let line = ["bash", "-c", "echo $PATH"];
    let sandbox = Sandbox::new().variable("PATH", &path);
    let output = sandbox
        .started_by(&[&sudo.to_string_lossy()], &line)
        .output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{path}\n"));
    Ok(())
}

/// Each call with the error that it gives.
fn is_denied_what_the_filter_denies() -> Result<(), Failed> {
    let script = r#"
import ctypes, errno, fcntl, os, socket, termios
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    return errno.errorcode.get(ctypes.get_errno()) if libc.syscall(number, *arguments) < 0 else "allowed"
def attempt(action):
    try:
        action()
        return "allowed"
    except OSError as error:
        return errno.errorcode[error.errno]
master, slave = os.openpty()
print("vsock", attempt(lambda: socket.socket(40, socket.SOCK_STREAM)))
print("alg", attempt(lambda: socket.socket(38, socket.SOCK_SEQPACKET)))
print("packet", attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))
print("raw", attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)))
print("tiocsti", attempt(lambda: fcntl.ioctl(slave, 0x5412, b"x")))
print("tiocsti_high", call(16, slave, ctypes.c_ulong(0x100005412), b"x"))
print("tioclinux", attempt(lambda: fcntl.ioctl(slave, 0x541C, b"\x02")))
print("io_uring", call(425, 1, ctypes.create_string_buffer(256)))
print("keyctl", call(250, 0, -3, 0))
print("bpf", call(321, 0, 0, 0))
print("perf", call(298, 0, 0, 0, 0, 0))
print("userfaultfd", call(323, 0))
print("user_namespace", call(272, 0x10000000))
print("clone3", call(435, 0, 0))
print("x32", call(0x40000000 + 41, 2, 1, 0))
print("mount", call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
print("inet", attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
print("netlink", attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))
"#;
    let ended = Sandbox::new().run(&["python3", "-c", script]);
    let expected = "\
vsock EAFNOSUPPORT
alg EAFNOSUPPORT
packet EAFNOSUPPORT
raw EPERM
tiocsti EPERM
tiocsti_high EPERM
tioclinux EPERM
io_uring ENOSYS
keyctl EPERM
bpf EPERM
perf EPERM
userfaultfd EPERM
user_namespace EPERM
clone3 ENOSYS
x32 ENOSYS
mount EPERM
inet allowed
netlink allowed
";
    assert_eq!(ended.stdout, expected, "{}", ended.stderr);
    Ok(())
}

/// User 0 owns the system's files, so these must not be there or not be writable.
fn cannot_change_the_machine_as_user_0() -> Result<(), Failed> {
    let script = "
        ls /dev | tr '\\n' ' '
        (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern
        (echo b > /proc/sysrq-trigger) 2>/dev/null && echo sysrq
        (echo 1 > /sys/kernel/mm/ksm/run) 2>/dev/null && echo sys
        mknod /tmp/ersatz-test-node b 8 0 2>/dev/null && echo mknod
        ls /sys/fs/cgroup/* /sys/fs/bpf/* /sys/kernel/debug/* /sys/firmware/* 2>/dev/null
        cat /proc/keys /proc/kcore 2>/dev/null | head -c 9
        umount /proc 2>/dev/null && echo umount
        true";
    let found = Sandbox::new().shell(script);
    assert_eq!(
        found,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    Ok(())
}

fn inherits_no_descriptor() -> Result<(), Failed> {
    let mut launcher = Sandbox::new().started_by(
        &["bash", "-c", "exec 7</etc 8<>/dev/null; exec \"$@\"", "sh"],
        &["ls", "/proc/self/fd"],
    );
    let output = launcher.output()?;
    // The fourth is the listing's own.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
    Ok(())
}

fn holds_the_stub_and_never_the_secret() -> Result<(), Failed> {
    for options in ["", "--as nobody"] {
        let all = Sandbox::new()
            .variable("COPY", SECRET)
            .variable("CONTAINED", &format!("token={SECRET};"))
            .option(options)
            .shell("env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/status 2>/dev/null | tr '\\0' '\\n'; grep -ra ghp_[r]eal /run /dev/shm 2>/dev/null; true");
        assert!(!all.contains("ghp_real"), "{options}: {all}");
        assert!(all.contains(&format!("GITHUB_TOKEN={STUB}\n")), "{all}");
        assert!(all.contains(&format!("COPY={STUB}\n")), "{all}");
        assert!(!all.contains("CONTAINED="), "{all}");
    }
    Ok(())
}

fn refuses_a_secret_on_the_command_line() -> Result<(), Failed> {
    let ended = Sandbox::new().run(&["echo", &format!("Bearer {SECRET}")]);
    assert_eq!(ended.code, 125, "{ended:?}");
    assert!(
        ended.stderr.contains("credential github") && !ended.stderr.contains(SECRET),
        "{ended:?}"
    );
    Ok(())
}

fn common_runtimes_work() -> Result<(), Failed> {
    for (command, expected) in [
        (
            &[
                "node",
                "-e",
                "console.log(require('child_process').execSync('echo hi')+'')",
            ][..],
            "hi\n\n",
        ),
        (
            &[
                "python3",
                "-c",
                "import threading, subprocess as s; t = threading.Thread(target=lambda: s.run(['echo', 'hi'])); t.start(); t.join()",
            ],
            "hi\n",
        ),
        (&["git", "--version"], "git version"),
        (&["bash", "-c", "echo a | (read x; echo $x)"], "a\n"),
    ] {
        let ended = Sandbox::new().run(command);
        assert!(
            ended.code == 0 && ended.stdout.starts_with(expected),
            "{command:?}: {ended:?}"
        );
    }
    Ok(())
}
