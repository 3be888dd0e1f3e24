//! What is measured, in which order, and with how much patience.

use serde::Serialize;

use crate::{job::Work, subject::Kind, tls::Protocol};

/// One line of work, put to every subject in turn.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// What `--only` names.
    pub(crate) name: String,
    /// What the table says.
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// `None`: the subject is only started.
    pub(crate) work: Option<Work>,
    /// Wants a subject without a past: its memory is what is measured.
    pub(crate) fresh: bool,
}

/// What a unit of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Request,
    Connection,
    Handshake,
    Gibibyte,
    Event,
    Held,
    Start,
}

/// How long and how often.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) warmup_ms: u64,
    pub(crate) duration_ms: u64,
    pub(crate) quick: bool,
}

impl Scenario {
    /// Who takes part.
    pub(crate) fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Rules => self.name.starts_with("rules"),
            Kind::Ersatz => true,
            Kind::Direct => !self.fresh && !self.name.starts_with("rules"),
            _ => !self.name.starts_with("rules"),
        }
    }

    fn new(name: &str, title: &str, unit: Unit, work: Work) -> Self {
        let fresh = unit == Unit::Held;
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            unit,
            work: Some(work),
            fresh,
        }
    }
}

/// All scenarios, in the order of the table.
pub(crate) fn scenarios(effort: &Effort) -> Vec<Scenario> {
    let mut all = vec![start_up(), idle(effort)];
    all.extend([1, 16, 64].map(h1));
    all.push(Scenario::new(
        "h2",
        "HTTP/2, 4 × 16 streams",
        Unit::Request,
        requests(Protocol::H2, 4, 16, 0),
    ));
    all.push(Scenario::new(
        "post",
        "POST of 1 KiB, HTTP/1.1, 16 connections",
        Unit::Request,
        requests(Protocol::H1, 16, 1, 1024),
    ));
    all.push(Scenario::new(
        "connect",
        "new connection and one request",
        Unit::Connection,
        connections(),
    ));
    all.push(handshakes("handshake-warm", "handshake, name known", None));
    all.push(handshakes(
        "handshake-new",
        "handshake, name never seen",
        Some(String::new()),
    ));
    for (label, bytes) in sizes(effort) {
        all.push(bulk("down", Protocol::H1, label, bytes));
        all.push(bulk("up", Protocol::H1, label, bytes));
    }
    if let Some((label, bytes)) = sizes(effort).pop() {
        all.push(bulk("down", Protocol::H2, label, bytes));
        all.push(bulk("up", Protocol::H2, label, bytes));
    }
    all.push(events(effort));
    all.push(Scenario::new(
        "rules-request",
        "1,000 rules instead of 2: a request",
        Unit::Request,
        requests(Protocol::H1, 16, 1, 0),
    ));
    all.push(Scenario::new(
        "rules-connect",
        "1,000 rules instead of 2: a connection",
        Unit::Connection,
        connections(),
    ));
    all
}

fn start_up() -> Scenario {
    Scenario {
        name: "start-up".to_owned(),
        title: "started, nothing asked".to_owned(),
        unit: Unit::Start,
        work: None,
        fresh: true,
    }
}

fn h1(connections: usize) -> Scenario {
    let plural = if connections == 1 { "" } else { "s" };
    let title = format!("HTTP/1.1, {connections} connection{plural}");
    let work = requests(Protocol::H1, connections, 1, 0);
    Scenario::new(&format!("h1-{connections}"), &title, Unit::Request, work)
}

fn requests(protocol: Protocol, connections: usize, streams: usize, body: usize) -> Work {
    Work::Requests {
        protocol,
        connections,
        streams,
        body,
    }
}

fn connections() -> Work {
    // Fewer than the ports that a sandbox has for one address.
    Work::Connections {
        concurrency: 4,
        most: 8_000,
    }
}

fn handshakes(name: &str, title: &str, fresh: Option<String>) -> Scenario {
    Scenario::new(
        name,
        title,
        Unit::Handshake,
        Work::Handshakes { fresh, count: 200 },
    )
}

fn sizes(effort: &Effort) -> Vec<(&'static str, u64)> {
    const MIB: u64 = 1 << 20;
    if effort.quick {
        vec![("64M", 64 * MIB), ("256M", 256 * MIB)]
    } else {
        vec![("64M", 64 * MIB), ("256M", 256 * MIB), ("1G", 1024 * MIB)]
    }
}

fn bulk(direction: &str, protocol: Protocol, label: &str, bytes: u64) -> Scenario {
    let (version, tag) = match protocol {
        Protocol::H1 => ("HTTP/1.1", "h1"),
        Protocol::H2 => ("HTTP/2", "h2"),
    };
    Scenario::new(
        &format!("bulk-{direction}-{tag}-{label}"),
        &format!("{label} {direction}, {version}"),
        Unit::Gibibyte,
        Work::Bulk {
            protocol,
            bytes,
            upload: direction == "up",
        },
    )
}

fn events(effort: &Effort) -> Scenario {
    let count = if effort.quick { 50 } else { 200 };
    let work = Work::Events {
        streams: 200,
        per_second: 50,
        count,
    };
    Scenario::new("events", "200 event streams, 50/s each", Unit::Event, work)
}

fn idle(effort: &Effort) -> Scenario {
    let connections = if effort.quick { 300 } else { 1000 };
    Scenario::new(
        "idle",
        "idle connection",
        Unit::Held,
        Work::Idle { connections },
    )
}
