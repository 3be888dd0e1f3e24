//! Steering: what a sandbox sends arrives at the daemon's listeners, and
//! nowhere else.
//!
//! [`Steering::start`] makes the *gate*, a network namespace of the daemon's
//! own, loads the kernel programs, pins them, and gives the listeners.
//! [`Steering::enrol_netns`] and [`Steering::enrol_link`] put a sandbox behind
//! them; [`Steering::identify`] tells from a connection's peer address which
//! sandbox it is. Everything that must hold without a daemon is pinned: with
//! the process dead, a sandbox reaches nothing, and the next process takes
//! over where it ended.
//!
//! This is the only crate beside the kernel programs that may use `unsafe`,
//! and it does so for plain-data records alone.
//! Linux 6.6 or newer, for tcx links (`bpf_link` at tc's hooks).

mod drops;
mod error;
mod gate;
mod identity;
mod instance;
mod kept;
mod link;
mod listeners;
mod log;
mod mount;
mod netns;
mod programs;
mod record;
mod sandbox;
mod start;
mod steering;
mod table;
pub mod vet;
mod watch;

pub use ersatz_ebpf_common::DropReason;

pub use self::{
    error::SteeringError,
    identity::SandboxId,
    instance::InstanceName,
    kept::Kept,
    listeners::Listeners,
    sandbox::{Adopt, LinkPins},
    steering::{Close, Enrolled, Options, Steering},
};
