//! The rig that scenarios run in: a *node* with a world beside it.
//!
//! A node is a set of namespaces (network, mount, process) of its own, so that
//! every scenario has a machine to itself: its own `/run`, its own `ersatzd`,
//! its own `ersatz0`. They end with the process that holds them, and that one
//! ends when the test does, however it ends: nothing can be left behind.

mod daemon;
mod namespace;
mod node;
mod observed;
mod policy;
mod process;
mod repository;
mod secrets;
mod stepwise;

pub use self::{
    daemon::Daemon,
    node::{Node, python, tool},
    observed::{Inventory, Records, text},
    policy::Settings,
    process::{Finished, Running, wait_until},
    repository::repository,
    secrets::Secrets,
    stepwise::Stepwise,
};
