//! DNS for sandboxes: the daemon answers, and asks nobody.
//!
//! A name that the policy lets a sandbox use gets synthetic addresses; any other
//! name does not exist. No query leaves the node because a sandbox asked: a name
//! is resolved only when a permitted connection to it is dialled, by `resolve`.
//! So names that are not allowed carry nothing out, and an answer from outside
//! never reaches a sandbox.
//!
//! Queries come to any address, because the gate takes port 53 of all of them;
//! each is answered from the address that it was sent to. What is parsed and
//! written is hickory-proto's; sockets are ours, because no server of hickory's
//! answers from the asked address.

use std::{net::IpAddr, sync::Arc};

use ersatz_policy::{Name, Reason};

mod answer;
mod limits;
mod synthetic;
mod tcp;
mod udp;

pub use self::{limits::Limits, synthetic::Synthetic, tcp::serve_tcp, udp::serve};

/// Finds a sandbox by the address that the gate gave it.
pub trait Zones: Send + Sync + 'static {
    /// The view of the sandbox behind `peer`; `None` for one that is not enrolled, which gets no answer at all.
    fn sandbox(&self, peer: IpAddr) -> Option<Arc<dyn View>>;
}

/// What one sandbox may see, and where its queries are counted.
pub trait View: Send + Sync {
    /// Tells whether some rule or credential names `name`.
    fn resolves(&self, name: &Name) -> bool;
    /// The sandbox's table of synthetic addresses.
    fn synthetic(&self) -> &Synthetic;
    /// The sandbox's budget.
    fn limits(&self) -> &Limits;
    /// A query was refused: `name` as it was asked, escaped and bounded, empty when there was none to read.
    fn refused(&self, name: &str, qtype: &str, reason: Reason);
    /// A query for an allowed name was answered.
    fn answered(&self);
}

#[cfg(test)]
mod tests;
