//! The command `ersatz`: sandboxes on one machine, and tools for policies.

pub mod policy;
