//! What the command sees of the file system.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
};

use libtest_mimic::Failed;

use crate::{
    Test,
    launcher::{SECRET, Sandbox},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    (
        "sees_the_files_of_the_machine",
        sees_the_files_of_the_machine,
    ),
    (
        "trusts_the_authority_at_the_usual_places",
        trusts_the_authority_at_the_usual_places,
    ),
    ("asks_the_daemon_for_names", asks_the_daemon_for_names),
    (
        "reaches_no_socket_of_the_machine",
        reaches_no_socket_of_the_machine,
    ),
    (
        "does_not_see_the_files_of_secrets",
        does_not_see_the_files_of_secrets,
    ),
    (
        "memory_that_looks_like_files_is_bounded",
        memory_that_looks_like_files_is_bounded,
    ),
    ("leaves_no_mount_behind", leaves_no_mount_behind),
    (
        "needs_a_directory_that_the_user_may_enter",
        needs_a_directory_that_the_user_may_enter,
    ),
];

fn sees_the_files_of_the_machine() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("in"), "hello")?;
    let printed = Sandbox::new()
        .directory(directory.path())
        .shell("pwd; cat in; echo done > out");
    assert_eq!(printed, format!("{}\nhello", directory.path().display()));
    assert_eq!(fs::read_to_string(directory.path().join("out"))?, "done\n");
    Ok(())
}

fn trusts_the_authority_at_the_usual_places() -> Result<(), Failed> {
    let ours = include_str!("../../testdata/ca.pem");
    let hash = include_str!("../../testdata/ca.hash").trim();
    let usual = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ];
    let usual = usual
        .iter()
        .filter(|path| Path::new(path).exists())
        .map(|path| (*path).to_owned());
    let single = [
        "/run/ersatz-sandbox/ca.pem".to_owned(),
        format!("/run/ersatz-sandbox/certs/{hash}.0"),
    ];
    let variables = [
        "$SSL_CERT_FILE",
        "$CURL_CA_BUNDLE",
        "$GIT_SSL_CAINFO",
        "$NODE_EXTRA_CA_CERTS",
    ];
    for file in usual.chain(single).chain(variables.map(str::to_owned)) {
        let content = Sandbox::new()
            .option("--as nobody")
            .shell(&format!("cat \"{file}\""));
        assert!(content.ends_with(ours), "{file}");
    }
    // The public roots are still there, and both are found by their hashes.
    let script = format!("ls /etc/ssl/certs | grep -c '\\.0$'; ls /etc/ssl/certs/{hash}.0");
    let listed = Sandbox::new().shell(&script);
    assert!(
        listed.ends_with(&format!("/etc/ssl/certs/{hash}.0\n")),
        "{listed}"
    );
    Ok(())
}

fn asks_the_daemon_for_names() -> Result<(), Failed> {
    let content = Sandbox::new().shell("cat /etc/resolv.conf");
    assert!(content.contains("\nnameserver 100.64.0.1\n"), "{content}");
    assert_eq!(content.matches("nameserver").count(), 1);
    Ok(())
}

fn reaches_no_socket_of_the_machine() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("service.sock");
    let _listener = UnixListener::bind(&path)?;
    let script = "
import errno, socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    print('connected')
except OSError as error:
    print(errno.errorcode[error.errno])";
    let ended = Sandbox::new().run(&["python3", "-c", script, &path.to_string_lossy()]);
    assert!(
        ["ECONNREFUSED\n", "EACCES\n"].contains(&ended.stdout.as_str()),
        "{ended:?}"
    );
    assert_eq!(Sandbox::new().shell("ls /run"), "ersatz-sandbox\nlock\n");
    Ok(())
}

fn does_not_see_the_files_of_secrets() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (shared, dedicated) = (
        directory.path().join("shared"),
        directory.path().join("dedicated"),
    );
    for place in [&shared, &dedicated] {
        fs::create_dir(place)?;
        fs::write(place.join("token"), SECRET)?;
    }
    fs::write(shared.join("other"), "not secret")?;
    let template =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/policy.yaml"))?;
    for place in [&shared, &dedicated] {
        let source = format!("from: {{file: {{path: {}/token}}}}", place.display());
        let policy = directory.path().join("policy.yaml");
        fs::write(
            &policy,
            template.replace("from: {env: {name: REAL_TOKEN}}", &source),
        )?;
        let script = format!("cat {0}/token 2>&1; ls -A {0} 2>&1; true", place.display());
        let seen = Sandbox::new().policy(&policy).shell(&script);
        assert!(!seen.contains("ghp_real"), "{seen}");
        assert_eq!(seen.contains("other"), *place == shared, "{seen}");
    }
    assert_eq!(fs::read_to_string(shared.join("token"))?, SECRET);
    Ok(())
}

fn memory_that_looks_like_files_is_bounded() -> Result<(), Failed> {
    for (directory, bytes) in [("/run", 65 << 20), ("/dev", 65 << 10)] {
        let script = format!("head -c {bytes} /dev/zero > {directory}/full || echo refused");
        assert_eq!(Sandbox::new().shell(&script), "refused\n", "{directory}");
    }
    Ok(())
}

fn leaves_no_mount_behind() -> Result<(), Failed> {
    let mounts = || fs::read_to_string("/proc/self/mounts");
    let ours = |text: &str| {
        text.lines()
            .filter(|line| line.contains("ersatz-sandbox"))
            .count()
    };
    let before = ours(&mounts()?);
    Sandbox::new().shell("true");
    assert_eq!(ours(&mounts()?), before);
    assert!(!Path::new("/run/ersatz-sandbox").exists());
    Ok(())
}

fn needs_a_directory_that_the_user_may_enter() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))?;
    let ended = Sandbox::new()
        .option("--as nobody")
        .directory(directory.path())
        .run(&["true"]);
    assert_eq!(ended.code, 125, "{ended:?}");
    assert!(ended.stderr.contains("cannot enter"), "{ended:?}");
    Ok(())
}
