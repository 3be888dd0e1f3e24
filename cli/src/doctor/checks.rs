//! The checks, each a small function over a fact of the machine.

use std::{fs, path::Path, thread};

use ersatz_steering::{Close, InstanceName, Options, Steering};
use nix::sched::{CloneFlags, unshare};

use super::Finding;

/// The first kernel with tcx, on which the steering rests.
const KERNEL: (u32, u32) = (6, 6);

/// Runs every check, from what is most likely to be missing to details.
pub(super) fn all() -> Vec<Finding> {
    let checks: &[fn() -> Finding] = &[
        kernel, rights, namespaces, steering, bpffs, seccomp, ipv6, daemon, resolver, roots, swap,
        terminal,
    ];
    checks.iter().map(|check| check()).collect()
}

fn kernel() -> Finding {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    match version(&release) {
        Some(version) if version >= KERNEL => Finding::good("kernel", release),
        _ => Finding::missing(
            "kernel",
            format!("{release}: programs at network links (tcx) came with 6.6"),
            "use a kernel of version 6.6 or later",
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn rights() -> Finding {
    match crate::run::missing_rights() {
        Ok(missing) if missing.is_empty() => {
            Finding::good("rights", "all capabilities that are needed")
        }
        Ok(missing) => Finding::missing(
            "rights",
            format!("this process lacks {}", missing.join(", ")),
            "run it with sudo; in a container, add these capabilities",
        ),
        Err(error) => Finding::missing("rights", format!("{error:#}"), "mount /proc"),
    }
}

/// Makes the namespaces of a sandbox, in a thread that then ends.
fn namespaces() -> Finding {
    let flags = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    match thread::spawn(move || unshare(flags)).join() {
        Ok(Ok(())) => Finding::good("namespaces", "can be made"),
        Ok(Err(error)) => Finding::missing(
            "namespaces",
            format!("cannot be made: {error}"),
            "run it with sudo; the kernel needs CONFIG_NET_NS, CONFIG_PID_NS, CONFIG_IPC_NS, CONFIG_UTS_NS",
        ),
        Err(_) => Finding::missing("namespaces", "the check failed", "report this"),
    }
}

/// Makes what a daemon makes, and removes it again.
fn steering() -> Finding {
    let tried = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let tried = tried
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(steer()));
    match tried {
        Ok(()) => Finding::good("steering", "programs load and attach"),
        Err(error) => Finding::missing(
            "steering",
            format!("{error:#}"),
            "see the checks before; the kernel needs CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF, CONFIG_VETH",
        ),
    }
}

async fn steer() -> anyhow::Result<()> {
    let options = Options::new(InstanceName::of_this_process());
    let (steering, listeners) = Steering::start(options).await?;
    drop(listeners);
    Ok(steering.close(Close::Remove).await?)
}

fn bpffs() -> Finding {
    if listed("/proc/filesystems", "bpf") {
        Finding::good("bpf file system", "known to the kernel")
    } else {
        Finding::missing(
            "bpf file system",
            "unknown to the kernel",
            "use a kernel with CONFIG_BPF_SYSCALL",
        )
    }
}

fn seccomp() -> Finding {
    if listed("/proc/sys/kernel/seccomp/actions_avail", "errno") {
        Finding::good("system call filter", "known to the kernel")
    } else {
        Finding::missing(
            "system call filter",
            "unknown to the kernel",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        )
    }
}

fn listed(file: &str, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|one| one == word))
}

fn ipv6() -> Finding {
    if Path::new("/proc/net/if_inet6").exists() {
        Finding::good("IPv6", "on")
    } else {
        Finding::missing(
            "IPv6",
            "off",
            "remove ipv6.disable=1 from the kernel's command line; hosts without IPv6 routes are fine",
        )
    }
}

fn daemon() -> Finding {
    let socket = Path::new(ersatz_daemon::control::SOCKET);
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Finding::good("ersatzd", "serves this machine"),
        Err(_) if socket.exists() => Finding::warn(
            "ersatzd",
            "is not there, but its socket is",
            "start ersatzd again; until then `ersatz run` serves itself",
        ),
        Err(_) => Finding::good("ersatzd", "not there: `ersatz run` serves itself"),
    }
}

fn resolver() -> Finding {
    let file = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<_> = file
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    if servers.is_empty() {
        Finding::warn(
            "name servers",
            "none in /etc/resolv.conf",
            "name them there or in a NodeConfig, spec.upstream.resolvers",
        )
    } else {
        Finding::good("name servers", servers.join(", "))
    }
}

fn roots() -> Finding {
    match crate::init::public_bundle() {
        Some(path) => Finding::good("public roots", path),
        None => Finding::warn(
            "public roots",
            "no bundle at the usual places",
            "install ca-certificates; intercepted hosts work without it, passthrough does not",
        ),
    }
}

fn swap() -> Finding {
    let areas = fs::read_to_string("/proc/swaps")
        .unwrap_or_default()
        .lines()
        .skip(1)
        .count();
    if areas == 0 {
        Finding::good("swap", "none: secrets stay in memory")
    } else {
        Finding::warn(
            "swap",
            "secrets in memory may be written to it",
            "encrypt the swap area, or do without",
        )
    }
}

fn terminal() -> Finding {
    let file = "/proc/sys/dev/tty/legacy_tiocsti";
    match fs::read_to_string(file).unwrap_or_default().trim() {
        "0" => Finding::good("terminal", "the kernel forbids to type into it"),
        _ => Finding::good(
            "terminal",
            "typing into it is forbidden by the system call filter",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc-v769"), Some((6, 18)));
        assert_eq!(version("5.15-rc1"), Some((5, 15)));
        assert_eq!(version("next"), None);
        assert!(version("6.10.1") >= Some(KERNEL) && version("6.1.0") < Some(KERNEL));
    }
}
