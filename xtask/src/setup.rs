//! `cargo xtask setup`: what is missing on this machine is installed, or named.
//!
//! Every command calls [`ensure`] with the parts that it needs. A part that is
//! there costs a look at the file system; a part that is missing is installed
//! when that is possible, and otherwise the error says what to type. Nothing is
//! installed outside the package managers' own places and `target/`.

mod apt;
mod bpf;
mod deny;
mod npm;
mod python;

use std::{fmt, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also install the agents' command lines for `cargo xtask test agents` (about 1 GB).
    #[arg(long)]
    agents: bool,
}

/// A part of what the commands need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// A C compiler and the like, to build at all.
    Build,
    /// A compiler and a linker for eBPF.
    Bpf,
    /// The unmodified clients that the scenarios and the demo run.
    Clients,
    /// Python's HTTP clients, in an environment under `target/`.
    Python,
    /// What looks at the dependencies.
    Lint,
    /// The proxies that the bench compares with, in an environment of their own.
    Proxies,
    /// Real agents, from npm, under `target/`.
    Agents,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build tools",
            Self::Bpf => "eBPF tool chain",
            Self::Clients => "clients",
            Self::Python => "Python clients",
            Self::Lint => "cargo-deny",
            Self::Proxies => "other proxies",
            Self::Agents => "agents",
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let started = Instant::now();
    let mut parts = vec![
        Part::Build,
        Part::Bpf,
        Part::Clients,
        Part::Python,
        Part::Lint,
    ];
    if args.agents {
        parts.push(Part::Agents);
    }
    ensure(&parts)?;
    println!(
        "setup: all is there ({:.1} s)",
        started.elapsed().as_secs_f32()
    );
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that each part is there.
pub(crate) fn ensure(parts: &[Part]) -> Result<()> {
    parts.iter().try_for_each(|part| match part {
        Part::Build => apt::ensure(apt::BUILD),
        Part::Bpf => bpf::ensure(),
        Part::Clients => apt::ensure(apt::CLIENTS),
        Part::Lint => deny::ensure(),
        Part::Python => python::ensure(&python::CLIENTS),
        Part::Proxies => python::ensure(&python::PROXIES),
        Part::Agents => npm::ensure(),
    })
}

/// The program that [`Part::Lint`] stands for.
pub(crate) fn cargo_deny() -> PathBuf {
    deny::path()
}

/// Says what is being done, since an installation may take minutes.
fn announce(what: impl fmt::Display) {
    println!("setup: {what}");
}
