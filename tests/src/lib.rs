//! What the scenarios stand on: a world of fake servers, a rig of network
//! namespaces to run it and the product in, and a client that misbehaves.
//!
//! - [`world`] is a process in a namespace of its own: name server, HTTPS
//!   servers, a git server, plain TCP. It writes down what it receives.
//! - [`rig`] makes the namespaces, starts the world, the daemon and sandboxes,
//!   and reads what each of them left behind.
//! - [`client`] speaks TLS and HTTP as no honest client would, from a sandbox.

pub mod client;
pub mod rig;
pub mod world;
