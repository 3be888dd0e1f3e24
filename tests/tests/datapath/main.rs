//! Scenarios: real namespaces, real eBPF, the real daemon and unmodified clients.
//!
//! Each has a machine of its own and looks at three things: what was on the
//! wire, what the audit log says, and what the metrics count.

mod authority;
mod clients;
mod destinations;
mod docs;
mod git;
mod isolation;
mod lifecycle;
mod load;
mod local;
mod refusals;
mod streams;
mod stubs;
mod upstreams;
mod world;
