//! A client that runs inside a sandbox and does what honest ones do not.

pub mod connections;
pub mod probe;
mod tls;
