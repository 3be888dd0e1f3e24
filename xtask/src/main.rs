//! The project's own commands: `cargo xtask COMMAND`.
//!
//! Each command lives in a file of its own and makes sure by itself, through
//! [`setup`], that what it needs is on the machine.

mod bench;
mod build;
mod demo;
mod lint;
mod privilege;
mod process;
mod setup;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and shows ersatz.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing to build and to test.
    Setup(setup::Args),
    /// Build the eBPF object and every binary.
    Build(build::Args),
    /// Run the tests, tier by tier.
    Test(test::Args),
    /// Show, in a small world of its own, what a sandbox holds and what servers get.
    Demo(demo::Args),
    /// Check form, lints, dependencies and sizes.
    Lint(lint::Args),
    /// Measure ersatz side by side with other proxies (`-- --help` shows the options).
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Test(args) => Ok(test::run(&args)),
        Command::Demo(args) => demo::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
