//! The datapath, with real namespaces and the real kernel programs.
//!
//! Every test makes a *node* of its own, a network namespace, so that the
//! machine's own network is never touched and tests run side by side. What the
//! node's stack received is read from its counters: it must stay zero.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![expect(unsafe_code, reason = "raw frames need packet sockets")]

mod crash;
mod forged;
mod frames;
mod inbound;
mod intruder;
mod load;
mod neighbours;
mod node;
mod program;
mod steer;
mod tidy;
