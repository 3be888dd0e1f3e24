//! `cargo xtask demo`: a secret reaches the server and never the sandbox, shown.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{
    build, privilege, process,
    setup::{self, Part},
    workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    setup::ensure(&[Part::Build, Part::Bpf, Part::Clients])?;
    process::run(
        build::cargo("build")
            .args(PACKAGES)
            .args(["--bins", "--quiet"]),
    )?;
    let mut demo: Command = privilege::elevated(workspace::target().join("debug/ersatz-demo"))?;
    let status = demo.status().context("cannot start the demo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Those whose binaries the demo runs: the product's two and the world.
const PACKAGES: [&str; 6] = [
    "--package",
    "ersatz",
    "--package",
    "ersatz-daemon",
    "--package",
    "ersatz-tests",
];
