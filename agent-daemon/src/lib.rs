//! The node daemon: it takes what the kernel steers out of sandboxes, decides,
//! swaps stubs for secrets and forwards.
//!
//! `app` puts the parts together and nobody imports it.

pub mod admin;
pub mod audit;
pub mod config;
pub mod dns;
pub mod enrol;
pub mod logging;
pub mod metrics;
pub mod resolve;
pub mod secrets;
pub mod sink;
pub mod vet;

mod budget;
mod files;
