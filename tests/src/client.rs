//! A client that runs inside a sandbox and does what honest ones do not.

pub mod connections;
mod cut;
pub mod probe;
mod tls;
