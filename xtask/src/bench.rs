//! `cargo xtask bench`: what ersatz costs, side by side with other proxies.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{
    build, privilege, process,
    setup::{self, Part},
    workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Options of the bench itself: `cargo xtask bench -- --help` shows them.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTION"
    )]
    options: Vec<OsString>,
}

/// Builds what is measured, installs what it is measured against, and measures.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Part::Build, Part::Bpf, Part::Clients, Part::Proxies])?;
    let mut build = build::cargo("build");
    build.args(["--release", "--bins"]);
    build.args([
        "--package",
        "ersatz-bench",
        "--package",
        "ersatz-daemon",
        "--package",
        "ersatz",
    ]);
    process::run(&mut build)?;
    let status = bench(args)?.status().context("cannot start the bench")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn bench(args: &Args) -> Result<Command> {
    let programs = workspace::target().join("release");
    let mut command = privilege::elevated(programs.join("ersatz-bench"))?;
    command.arg("--programs").arg(programs);
    command.arg("--venv").arg(workspace::bench_venv());
    command.arg("--out").arg(workspace::bench());
    command.args(&args.options);
    Ok(command)
}
