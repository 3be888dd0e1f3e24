//! What a connection without HTTP leaves behind: a record when it was refused, or passed unread.
//!
//! An intercepted connection leaves none of its own: each of its requests does.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ersatz_policy::{Authority, Host, Reason};

use crate::{
    audit::{Protocol, Record, RecordId, Verdict},
    metrics::OpenConnection,
    node::Node,
    relay::Moved,
    sandboxes::Sandbox,
};

/// One connection, from the moment it is identified.
pub(crate) struct Access {
    node: Arc<Node>,
    sandbox: Arc<Sandbox>,
    started: Instant,
    dialled: SocketAddr,
    protocol: Protocol,
    authority: Option<String>,
    connected: Option<(SocketAddr, Duration)>,
    _open: OpenConnection,
}

impl Access {
    pub(crate) fn begin(node: Arc<Node>, sandbox: Arc<Sandbox>, dialled: SocketAddr) -> Self {
        Self {
            _open: node.metrics.open_connection(),
            node,
            sandbox,
            started: Instant::now(),
            dialled,
            protocol: Protocol::Tcp,
            authority: None,
            connected: None,
        }
    }

    pub(crate) fn protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    pub(crate) fn authority(&mut self, authority: &Authority) {
        self.authority = Some(authority.to_string());
    }

    /// The host that a refusal is about, where more is not known.
    pub(crate) fn host(&mut self, host: Option<&Host>, port: u16) {
        self.authority = host.map(|host| Authority::new(host.clone(), port).to_string());
    }

    pub(crate) fn connected(&mut self, upstream: SocketAddr) {
        self.connected = Some((upstream, self.started.elapsed()));
    }

    /// From here on, requests are recorded one by one.
    pub(crate) fn intercepted(&self) {
        self.node
            .metrics
            .accepted(self.protocol, Verdict::Allow, None);
    }

    pub(crate) fn passed(&self, moved: Moved) {
        self.record(Verdict::Passthrough, None, moved);
    }

    pub(crate) fn refused(&self, reason: Reason) {
        self.record(Verdict::Deny, Some(reason), Moved::default());
    }

    fn record(&self, verdict: Verdict, reason: Option<Reason>, moved: Moved) {
        let dialled;
        let authority = match &self.authority {
            Some(authority) => authority,
            None => {
                dialled = self.dialled.to_string();
                &dialled
            }
        };
        let record = Record {
            id: RecordId::next(),
            sandbox: &self.sandbox.tag,
            protocol: self.protocol,
            method: "",
            authority,
            path: "",
            status: None,
            verdict,
            reason,
            credentials: &[],
            bytes_in: moved.up,
            bytes_out: moved.down,
            started: self.started,
            upstream_time: self.connected.map(|(_, after)| after),
            upstream: self.connected.map(|(upstream, _)| upstream),
            tls: None,
        };
        if let Some(reason) = reason {
            self.sandbox.refusals.note(reason, authority);
        }
        self.node.metrics.connection(&record);
        self.node.audit.record(&record);
    }
}
