//! `ersatzd` on a node.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Finished, Node, Running, tool, wait_until};

/// How long a start and an end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running daemon; killed when this is dropped.
pub struct Daemon<'n> {
    node: &'n Node,
    running: Running,
}

impl<'n> Daemon<'n> {
    pub(super) fn start(node: &'n Node) -> Result<Self> {
        let mut command = node.command(&tool("ersatzd").to_string_lossy());
        command.arg("--config").arg(node.directory().join("config"));
        if std::env::var_os("ERSATZ_LOG").is_none() {
            command.env("ERSATZ_LOG", "info");
        }
        let mut daemon = Self {
            node,
            running: Running::start(command)?,
        };
        let ready = wait_until(PATIENCE, || {
            let ready = daemon
                .ask("/readyz")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
            (ready || !daemon.running.is_alive()).then_some(ready)
        });
        if let Ok(true) = ready {
            return Ok(daemon);
        }
        let ended = daemon.running.finish(Duration::from_millis(100));
        bail!("ersatzd is not ready: {ended:?}")
    }

    /// The daemon's process, as the machine numbers it.
    pub fn pid(&self) -> Result<u32> {
        self.running.pid()
    }

    /// Whether it runs still.
    pub fn is_alive(&mut self) -> bool {
        self.running.is_alive()
    }

    /// Ends it without giving it a chance to do anything.
    pub fn kill(self) -> Result<()> {
        self.running.signal(Signal::SIGKILL)?;
        self.running.finish(PATIENCE)?;
        Ok(())
    }

    /// Ends it as a service manager does, and gives what it said.
    pub fn stop(self) -> Result<Finished> {
        self.running.signal(Signal::SIGTERM)?;
        self.running.finish(PATIENCE)
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .context("no VmRSS")?
            .parse()?;
        Ok(kib * 1024)
    }

    /// The sum of a metric's samples whose labels hold all of these (`reason="…"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let text = self.ask("/metrics")?;
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or(" ");
            (rest.starts_with('{') || line.starts_with(&format!("{name} ")))
                && labels.iter().all(|label| rest.contains(label))
        });
        Ok(samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }

    /// Waits until a metric has come to at least so much: connections count when they end.
    pub fn reaches(&self, name: &str, labels: &[&str], least: u64) -> Result<()> {
        let reached = wait_until(PATIENCE, || {
            self.metric(name, labels)
                .ok()
                .filter(|value| *value >= least)
        });
        let now = self.metric(name, labels)?;
        reached.with_context(|| format!("{name}{labels:?} is {now}, not {least}"))?;
        Ok(())
    }

    /// The answer of the daemon's administration socket, head and all.
    pub fn ask(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: ersatz\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn socket(&self) -> PathBuf {
        self.node.path("/run/ersatz/node/admin.sock")
    }
}
