//! Namespaces, links and addresses, by `ip`: a bench may, the product may not.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, bail, ensure};

const MARK: &str = "ERSATZ_BENCH_INSIDE";

/// Continues in namespaces of the bench's own: returns inside them, with `/run`
/// empty; never returns outside.
pub(crate) fn enter() -> Result<()> {
    if env::var_os(MARK).is_some() {
        return run(
            "mount",
            &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"],
        );
    }
    let mut command = Command::new("nice");
    // Other work on the machine gives way, so that the windows are the subjects' own.
    command.args(["-n", "-15", "unshare"]).args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command
        .arg("--")
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(MARK, "1");
    let error = command.exec();
    bail!("cannot enter namespaces by `unshare` (root is needed): {error}");
}

/// Makes the world's and the client's namespace and routes between them.
pub(crate) fn build() -> Result<()> {
    run("ip", &["link", "set", "lo", "up"])?;
    segment("world", "10.77.1")?;
    segment("client", "10.77.2")?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    inside("client", "ip_local_port_range", "1024 65000")?;
    inside("client", "tcp_tw_reuse", "1")
}

/// One namespace at the end of a veth: `.1` is ours, `.2` is its.
fn segment(name: &str, net: &str) -> Result<()> {
    let (gateway, ours, theirs) = (
        format!("{net}.1"),
        format!("{net}.1/24"),
        format!("{net}.2/24"),
    );
    run("ip", &["netns", "add", name])?;
    run(
        "ip",
        &[
            "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name,
        ],
    )?;
    run("ip", &["address", "add", &ours, "dev", name])?;
    run("ip", &["link", "set", name, "up"])?;
    for arguments in [
        vec!["link", "set", "lo", "up"],
        vec!["address", "add", &theirs, "dev", "eth0"],
        vec!["link", "set", "eth0", "up"],
        vec!["route", "add", "default", "via", &gateway],
    ] {
        run("ip", &[vec!["-n", name], arguments].concat())?;
    }
    Ok(())
}

fn inside(namespace: &str, setting: &str, value: &str) -> Result<()> {
    // /proc/sys/net shows the namespace of the process that opens it.
    let write = format!("echo {value} > /proc/sys/net/ipv4/{setting}");
    run(
        "nsenter",
        &[&format!("--net=/run/netns/{namespace}"), "sh", "-c", &write],
    )
}

/// Makes `server` the node's resolver, for those proxies that ask the system.
pub(crate) fn resolve_by(dir: &Path, server: &str) -> Result<()> {
    let file = dir.join("resolv.conf");
    fs::write(&file, format!("nameserver {server}\n"))?;
    let target = fs::canonicalize("/etc/resolv.conf").context("/etc/resolv.conf")?;
    let (file, target) = (file.to_string_lossy(), target.to_string_lossy());
    run("mount", &["--bind", &file, &target])
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status: ExitStatus = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        status.success(),
        "`{program} {}` failed: {status}",
        arguments.join(" ")
    );
    Ok(())
}
