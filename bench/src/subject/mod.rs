//! What is measured: how each subject is started, and how it is asked.

pub(crate) mod bare;
mod envoy;
mod ersatz;
mod mitmproxy;
pub(crate) mod relay;

use std::{path::PathBuf, process::Command, rc::Rc, thread, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    job::Job,
    lab::{
        Lab, NODE, REAL, STUB, UPSTREAM,
        process::{self, Core, Process},
    },
    load::Load,
    meter::Meter,
};

/// The subjects, in the order of the table.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    clap::ValueEnum,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Direct,
    Relay,
    Bare,
    Ersatz,
    /// The same daemon and load, in a sandbox under a policy of 1,000 rules.
    #[value(skip)]
    Rules,
    Envoy,
    Mitmproxy,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Bare => "bare swap",
            Self::Ersatz => "ersatz",
            Self::Rules => "1,000 rules",
            Self::Envoy => "Envoy",
            Self::Mitmproxy => "mitmproxy",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Direct | Self::Ersatz | Self::Rules => 443,
            Self::Relay => 7001,
            Self::Bare => 7002,
            Self::Envoy => 7003,
            Self::Mitmproxy => 7004,
        }
    }

    /// So slow that it gets an eighth of the bytes, and fewer rounds.
    pub(crate) fn slow(self) -> bool {
        self == Self::Mitmproxy
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// `ersatz` and `ersatzd`.
    pub(crate) ours: PathBuf,
    /// The Python environment with Envoy and mitmproxy.
    pub(crate) venv: PathBuf,
}

/// A running subject and the agent that loads it.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    proxy: Option<Rc<Process>>,
    /// `None` only while the subject is stopped.
    load: Option<Load>,
}

impl Subject {
    /// Starts the subject, waits until it serves, and starts its agent.
    pub(crate) fn start(kind: Kind, lab: &Lab, programs: &Programs) -> Result<Self> {
        let proxy =
            proxy(kind, lab, programs).with_context(|| format!("starting {}", kind.name()))?;
        Self::with_load(kind, proxy.map(Rc::new), lab, programs)
    }

    /// The same daemon, asked from a sandbox under the policy of 1,000 rules.
    pub(crate) fn rules(&self, lab: &Lab, programs: &Programs) -> Result<Self> {
        Self::with_load(Kind::Rules, self.proxy.clone(), lab, programs)
    }

    fn with_load(
        kind: Kind,
        proxy: Option<Rc<Process>>,
        lab: &Lab,
        programs: &Programs,
    ) -> Result<Self> {
        let agent = match kind {
            Kind::Ersatz | Kind::Rules => ersatz::agent(kind, programs)?,
            _ => {
                let mut command = process::within("client", Core::Load, &process::itself()?);
                command.arg("agent");
                command
            }
        };
        let load = Load::start(agent, &lab.log(&format!("agent-{}", kind.name())))?;
        Ok(Self {
            kind,
            proxy,
            load: Some(load),
        })
    }

    /// Ends the proxy and its agent, so that the next start is a fresh one.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.load = None;
        match self.proxy.take().and_then(Rc::into_inner) {
            Some(process) => process.stop(),
            None => Ok(()),
        }
    }

    /// The proxy's counters; the direct connection has none.
    pub(crate) fn meter(&self) -> Option<Meter> {
        self.proxy.as_ref().map(|process| Meter::new(process.id()))
    }

    pub(crate) fn agent(&mut self) -> Result<&mut Load> {
        self.load.as_mut().context("the subject is stopped")
    }

    /// Fills in how this subject is reached, trusted and asked.
    pub(crate) fn address(&self, job: &mut Job, lab: &Lab) -> Result<()> {
        let (addr, token) = match self.kind {
            Kind::Direct => (Some(format!("{UPSTREAM}:443")), Some(REAL)),
            Kind::Relay => (Some(format!("{NODE}:{}", self.kind.port())), Some(REAL)),
            // Inside a sandbox the name is resolved, and stub and bundle are in the environment.
            Kind::Ersatz | Kind::Rules => (None, None),
            _ => (Some(format!("{NODE}:{}", self.kind.port())), Some(STUB)),
        };
        job.addr = addr.map(|addr| addr.parse()).transpose()?;
        job.ca = token.map(|_| lab.dir().join("ca.pem"));
        job.token = token.map(str::to_owned);
        Ok(())
    }
}

fn proxy(kind: Kind, lab: &Lab, programs: &Programs) -> Result<Option<Process>> {
    let listen = format!("{NODE}:{}", kind.port());
    let command = match kind {
        Kind::Direct => return Ok(None),
        Kind::Relay => relay_command(&listen)?,
        Kind::Bare => bare_command(&listen, lab)?,
        Kind::Envoy => envoy::command(&listen, lab, programs)?,
        Kind::Mitmproxy => mitmproxy::command(kind.port(), lab, programs)?,
        Kind::Ersatz | Kind::Rules => return ersatz::start(lab, programs).map(Some),
    };
    let process = Process::start(command, &lab.log(kind.name()))?;
    process::wait_for_port(&listen, START)
        .with_context(|| format!("see {}", lab.log(kind.name()).display()))?;
    thread::sleep(SETTLE);
    Ok(Some(process))
}

fn relay_command(listen: &str) -> Result<Command> {
    let mut command = process::pinned(Core::Proxy, &process::itself()?);
    command.args(["relay", listen, &format!("{UPSTREAM}:443")]);
    Ok(command)
}

fn bare_command(listen: &str, lab: &Lab) -> Result<Command> {
    let mut command = process::pinned(Core::Proxy, &process::itself()?);
    command.args([
        "bare",
        "--listen",
        listen,
        "--upstream",
        &format!("{UPSTREAM}:443"),
    ]);
    command.args([
        "--stub",
        &format!("Bearer {STUB}"),
        "--real",
        &format!("Bearer {REAL}"),
    ]);
    command.arg("--certificates").arg(lab.dir());
    Ok(command)
}

/// mitmproxy imports half of Python first.
const START: Duration = Duration::from_secs(30);
/// For what a program does after its port is open.
const SETTLE: Duration = Duration::from_millis(500);
