//! The place of the measurements: three network namespaces in a row, on two cores.
//!
//! ```text
//! client 10.77.2.2 ── 10.77.2.1 node 10.77.1.1 ── 10.77.1.2 world
//! ```
//!
//! The bench re-executes itself in namespaces of its own (network, mounts,
//! processes), so that nothing it makes outlives it, and no other daemon on
//! the machine is met. Every subject runs in the node's namespace on the first
//! core; load and upstream run on the second.

mod namespaces;
pub(crate) mod process;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{HOST, pki};
use process::{Core, Process};

pub(crate) use namespaces::enter;

/// The address of the upstream's server and name server, in the world's namespace.
pub(crate) const UPSTREAM: &str = "10.77.1.2";
/// The node's address on the client's side: where proxies with a port of their own listen.
pub(crate) const NODE: &str = "10.77.2.1";
/// What opens the upstream.
pub(crate) const REAL: &str = "real_7Qm2vXc9Lp4RtY8sWd3KfJ6hZb1NgE5u";
/// What the clients of the proxies hold.
pub(crate) const STUB: &str = "stub_000000000000000000000000000000000";

/// The namespaces, the certificates and the upstream.
pub(crate) struct Lab {
    dir: PathBuf,
    logs: PathBuf,
    _upstream: Process,
}

impl Lab {
    /// Builds all of it and waits until the upstream answers. Logs go to `out`.
    pub(crate) fn build(out: &Path) -> Result<Self> {
        namespaces::build()?;
        let dir = PathBuf::from("/run/bench");
        let logs = out.join("logs");
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(&logs)?;
        certificates(&dir)?;
        fs::write(dir.join("secret"), REAL)?;
        namespaces::resolve_by(&dir, UPSTREAM)?;
        let listen = format!("{UPSTREAM}:443");
        let mut command = process::within("world", Core::Load, &process::itself()?);
        command.args(["upstream", &listen]).arg(&dir).arg(REAL);
        let upstream = Process::start(command, &logs.join("upstream.log"))?;
        process::wait_for_port(&listen, Duration::from_secs(5)).context("the upstream")?;
        Ok(Self {
            dir,
            logs,
            _upstream: upstream,
        })
    }

    /// Certificates, configurations and access logs: in memory, gone with the bench.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a process's own output goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

fn certificates(dir: &Path) -> Result<()> {
    let names = [HOST, "*.bench.test"];
    let authority = pki::Authority::generate()?;
    authority.write(dir)?;
    authority.issue(dir, "upstream", &names)?;
    authority.issue(dir, "proxy", &names)
}
