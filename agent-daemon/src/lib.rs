//! The node daemon: it takes what the kernel steers out of sandboxes, decides,
//! swaps stubs for secrets and forwards.
//!
//! `app` puts the parts together and nobody imports it.
#![forbid(unsafe_code)]

/// Many connections that hold a little each for a long time: jemalloc packs them into an eighth
/// less memory than the C library does, and gives back what a burst took.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub mod admin;
pub mod app;
pub mod audit;
pub mod config;
pub mod control;
pub mod dns;
pub mod enrol;
pub mod logging;
pub mod metrics;
pub mod resolve;
pub mod secrets;
pub mod sink;
pub mod vet;

mod access;
mod binding;
mod budget;
mod connection;
mod detect;
mod files;
mod http;
mod inject;
mod listener;
mod node;
mod refusals;
mod refused;
mod relay;
mod sandboxes;
mod socket;
mod tls;
mod upstream;
mod worker;
mod zone;
