//! The node daemon: it takes what the kernel steers out of sandboxes, decides,
//! swaps stubs for secrets and forwards.
//!
//! `app` puts the parts together and nobody imports it.

pub mod dns;
pub mod enrol;
pub mod resolve;
pub mod secrets;
pub mod vet;

mod budget;
mod files;
