//! `cargo xtask build`: the eBPF object and every binary.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{
    process,
    setup::{self, Part},
    workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build with optimisation, as for a release.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Part::Build, Part::Bpf])?;
    let mut build = cargo("build");
    build.args(["--workspace", "--bins"]);
    if args.release {
        build.arg("--release");
    }
    process::run(&mut build)?;
    Ok(ExitCode::SUCCESS)
}

/// Cargo itself, in the workspace's root, with the lock file as it is.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .arg(subcommand)
        .arg("--locked")
        .current_dir(workspace::root());
    command
}
