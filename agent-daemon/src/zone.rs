//! The names of the world as each sandbox sees them: what its own policy names, and nothing else.

use std::{net::IpAddr, sync::Arc, time::Instant};

use ersatz_policy::{Name, Reason};
use ersatz_steering::Steering;

use crate::{
    audit::{Protocol, Record, RecordId, Verdict},
    dns::{Limits, Synthetic, View, Zones},
    metrics::DnsVerdict,
    node::Node,
    sandboxes::Sandbox,
};

/// Tells the DNS server whose query it has.
pub(crate) struct NodeZones {
    pub(crate) node: Arc<Node>,
    pub(crate) steering: Arc<Steering>,
}

impl Zones for NodeZones {
    fn sandbox(&self, peer: IpAddr) -> Option<Arc<dyn View>> {
        let sandbox = self.node.sandboxes.find(self.steering.identify(peer)?)?;
        Some(Arc::new(SandboxView {
            node: self.node.clone(),
            sandbox,
        }))
    }
}

/// What one sandbox may resolve.
pub(crate) struct SandboxView {
    pub(crate) node: Arc<Node>,
    pub(crate) sandbox: Arc<Sandbox>,
}

impl View for SandboxView {
    fn resolves(&self, name: &Name) -> bool {
        self.sandbox.bound().policy.resolves(name)
    }

    fn synthetic(&self) -> &Synthetic {
        &self.sandbox.names
    }

    fn limits(&self) -> &Limits {
        &self.sandbox.dns_limits
    }

    fn refused(&self, name: &str, qtype: &str, reason: Reason) {
        self.node.metrics.dns(match reason {
            Reason::Overloaded => DnsVerdict::OverBudget,
            Reason::RequestMalformed => DnsVerdict::Malformed,
            _ => DnsVerdict::Refused,
        });
        let name = name.strip_suffix('.').unwrap_or(name);
        self.sandbox.refusals.note(reason, name);
        self.node.audit.record(&Record {
            id: RecordId::next(),
            sandbox: &self.sandbox.tag,
            protocol: Protocol::Dns,
            method: qtype,
            authority: name,
            path: "",
            status: None,
            verdict: Verdict::Deny,
            reason: Some(reason),
            credentials: &[],
            bytes_in: 0,
            bytes_out: 0,
            started: Instant::now(),
            upstream_time: None,
            upstream: None,
            tls: None,
        });
    }

    fn answered(&self) {
        self.node.metrics.dns(DnsVerdict::Answered);
    }
}
