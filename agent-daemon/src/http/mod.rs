//! HTTP between a sandbox and an upstream: strict on authority, a stream in both directions.
//!
//! HTTP/1.1 stays HTTP/1.1 and HTTP/2 stays HTTP/2. Every request passes the same stages, see
//! [`serve`]: authority, policy, injection, forwarding; every one leaves an audit record.

mod answer;
mod authority;
mod body;
mod exchange;
mod fields;
mod serve;
mod upgrade;

pub(crate) use body::{Outgoing, Reply};
pub(crate) use exchange::Exchange;
pub(crate) use serve::{Route, Serving, Session, serve};
