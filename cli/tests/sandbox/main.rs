//! The sandbox of `ersatz run` from within: what it sees, may do and is told.
//!
//! The sandboxes here get a stub and no link, so these tests need root and no
//! eBPF. This binary is the tests, and started again also the launcher and the
//! sandbox's init, as `ersatz` is.

#![expect(clippy::unnecessary_wraps, reason = "a table of tests is of one type")]

mod confinement;
mod files;
mod launcher;
mod processes;
mod terminal;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: it fails by panicking or by an error.
type Test = fn() -> Result<(), Failed>;

fn main() -> ExitCode {
    if ersatz::init::is_meant() {
        return ersatz::init::main();
    }
    if launcher::is_meant() {
        return launcher::main();
    }
    let arguments = Arguments::from_args();
    if !arguments.list && !nix::unistd::Uid::effective().is_root() {
        eprintln!(
            "these tests make namespaces, which needs root: sudo -E cargo xtask test datapath"
        );
        return ExitCode::FAILURE;
    }
    let all = [
        confinement::TESTS,
        files::TESTS,
        processes::TESTS,
        terminal::TESTS,
    ];
    let trials = all
        .into_iter()
        .flatten()
        .map(|(name, test)| Trial::test(*name, *test));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
