//! Namespaces that live as long as their holder.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// Network, mount and process namespaces with a holder inside.
///
/// The holder waits for the end of a pipe that only this process has the other
/// end of. When that closes, for whatever reason, the holder exits, and since it
/// is the first process of its process namespace, the kernel ends all others.
pub(super) struct Namespace {
    holder: Child,
    pid: u32,
    _lifeline: ChildStdin,
}

/// What the holder does before it waits: a `/run` and a `/proc` of its own.
const HOLD: &str = "set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t proc proc /proc
ip link set lo up
echo ready
exec cat";

impl Namespace {
    pub(super) fn new() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--pid",
                "--ipc",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let lifeline = holder.stdin.take().context("the holder has no pipe")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("the holder has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!(
                "cannot make namespaces: this needs root; run: sudo -E cargo xtask test datapath"
            );
        }
        let pid = only_child(holder.id())?;
        Ok(Self {
            holder,
            pid,
            _lifeline: lifeline,
        })
    }

    /// The holder, as the machine's own process namespace numbers it.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that runs inside.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--net", "--mount", "--pid", "--ipc"]);
        command.arg("--").arg(program);
        command
    }

    /// Runs a few lines of shell inside and wants them to succeed.
    pub(super) fn shell(&self, script: &str) -> Result<()> {
        let output = self.command("sh").args(["-ec", script]).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{script}` failed: {complaint}");
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The one process that this one has started, by the kernel's own list.
pub(super) fn only_child(pid: u32) -> Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children
        .split_whitespace()
        .next()
        .context("it has started no process yet")?;
    Ok(first.parse()?)
}
