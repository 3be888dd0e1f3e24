//! What a sandbox hands in to be enrolled, and what it gets back.
//!
//! The same two records serve the daemon inside `ersatz run` and the control
//! socket of `ersatzd`, so that a sandbox cannot tell which of the two has it.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Asks for a sandbox to be enrolled.
#[derive(Serialize, Deserialize)]
pub struct EnrolRequest {
    /// A name for people: audit records carry it, decisions never use it.
    pub name: String,
    /// The policy by name; `None` when there is only one.
    pub policy: Option<String>,
    /// Resources that came with the sandbox (`ersatz run -f`); `None` for the daemon's own.
    pub resources: Option<ersatz_api::Resources>,
    /// Values of `from: env` sources, read by the client from its own environment.
    pub env: BTreeMap<String, SecretText>,
    /// Stubs by credential that this sandbox already holds: empty at first,
    /// what [`Enrolled::stubs`] gave when a new daemon takes the sandbox over.
    pub stubs: BTreeMap<String, String>,
}

/// What an enrolled sandbox is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// Variables that hold stubs, by name.
    pub env: BTreeMap<String, String>,
    /// Stubs by credential, to be handed in again after a change of daemon.
    pub stubs: BTreeMap<String, String>,
    /// The certificate authority that the sandbox must trust, PEM.
    pub ca_pem: String,
    /// The address that goes into the sandbox's `resolv.conf`.
    pub resolver: IpAddr,
    /// Files that hold secrets of the daemon's, to be hidden from the sandbox.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
}

/// A secret on its way to the daemon: zeroized, never printed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub Zeroizing<String>);
