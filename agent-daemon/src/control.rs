//! The control socket: how `ersatz run` enrols its sandbox with a running `ersatzd`.
//!
//! One connection is one sandbox. The client sends one frame, which carries the
//! request and the sandbox's network namespace, and gets one answer; after that
//! the open connection *is* the lease: closed by the client, the sandbox ends;
//! broken by the daemon, the client enrols the same sandbox with the next daemon.
//! A client that ends in order is told what was refused to its sandbox.
//!
//! Only root may connect: the socket's mode says so, and `SO_PEERCRED` is
//! checked as well. A frame holds secrets, so its buffers are zeroized. Nothing
//! that a peer sends ends more than its own connection.

mod client;
mod frame;
mod server;

use serde::{Deserialize, Serialize};

use crate::enrol::{EnrolRequest, Enrolled};

pub use client::{Client, ControlError, Lease};
pub use frame::FrameError;
pub use server::{Enrol, bind, serve};

/// Where `ersatzd` listens.
pub const SOCKET: &str = "/run/ersatz/ersatzd.sock";

/// The version of this protocol; the two sides must agree.
const VERSION: u32 = 1;

/// The client's only frame.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    version: u32,
    enrol: EnrolRequest,
}

/// The daemon's frames: one after the request, one when a lease ends.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Enrolled(Enrolled),
    Refused(Refusal),
    Ended(Vec<Refused>),
}

/// What was refused to a sandbox while it was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A label of a closed set, kebab-case.
    pub reason: String,
    /// The host or address that the sandbox asked for.
    pub target: String,
    /// How often.
    pub count: u64,
}

/// Why a sandbox was not enrolled.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    /// A label of a closed set, kebab-case.
    pub reason: String,
    /// What went wrong, for people; never a secret.
    pub message: String,
}

#[cfg(test)]
mod tests;
