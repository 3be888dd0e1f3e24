//! The command `ersatz`: sandboxes on one machine, and tools for policies.
//!
//! `run` makes a sandbox and is the parent of everything in it; `init` is what
//! runs inside, as the sandbox's first process; `doctor` says what this machine
//! can do; `policy` explains decisions. The library exists for the tests.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod doctor;
pub mod exit;
pub mod init;
pub mod policy;
pub mod run;
