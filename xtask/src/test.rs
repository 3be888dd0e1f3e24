//! `cargo xtask test [TIER…] [-- FILTER]`: the tests, tier by tier.
//!
//! A tier is a privilege: `unit` needs a compiler, `proxy` loopback, `datapath`
//! root with network namespaces and eBPF, `agents` some big downloads besides
//! (and runs only when asked for). A tier that cannot run fails.

mod targets;

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use self::targets::Target;
use crate::{
    build, privilege, process,
    setup::{self, Part},
    workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tiers to run: unit, proxy and datapath where none is named.
    #[arg(value_enum)]
    tiers: Vec<Tier>,
    /// Arguments for the tests themselves: a part of their names, `--nocapture`, …
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Tests that need the same rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tier {
    /// Beside the code and in process: no rights, no network.
    Unit,
    /// The proxy in process, over loopback.
    Proxy,
    /// Real namespaces, real eBPF, real daemon and clients: root.
    Datapath,
    /// Real agents against a fake provider: root and big downloads.
    Agents,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unit => "unit",
            Self::Proxy => "proxy",
            Self::Datapath => "datapath",
            Self::Agents => "agents",
        })
    }
}

impl Tier {
    fn parts(self) -> &'static [Part] {
        match self {
            Self::Unit | Self::Proxy => &[Part::Build, Part::Bpf],
            Self::Datapath => &[Part::Build, Part::Bpf, Part::Clients, Part::Python],
            Self::Agents => &[Part::Build, Part::Bpf, Part::Clients, Part::Agents],
        }
    }

    fn needs_root(self) -> bool {
        matches!(self, Self::Datapath | Self::Agents)
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let tiers = match args.tiers.as_slice() {
        [] => [Tier::Unit, Tier::Proxy, Tier::Datapath].as_slice(),
        named => named,
    };
    let results: Vec<Outcome> = tiers
        .iter()
        .map(|tier| Outcome::of(*tier, &args.filter))
        .collect();
    println!();
    for outcome in &results {
        println!("{outcome}");
    }
    let passed = results.iter().all(|outcome| outcome.result.is_ok());
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Outcome {
    tier: Tier,
    result: Result<()>,
    took: Duration,
}

impl Outcome {
    fn of(tier: Tier, filter: &[String]) -> Self {
        println!("\n=== tier {tier} ===");
        let started = Instant::now();
        let result = run_tier(tier, filter);
        if let Err(error) = &result {
            eprintln!("tier {tier}: {error:#}");
        }
        Self {
            tier,
            result,
            took: started.elapsed(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.result.is_ok() { "ok" } else { "FAILED" };
        write!(
            f,
            "tier {:<9} {result:<7} {:>6.1} s",
            self.tier,
            self.took.as_secs_f32()
        )
    }
}

fn run_tier(tier: Tier, filter: &[String]) -> Result<()> {
    setup::ensure(tier.parts())
        .with_context(|| format!("cannot run; `cargo xtask setup` prepares the tier {tier}"))?;
    let targets = targets::of(tier)?;
    if targets.is_empty() {
        bail!("no test belongs to it");
    }
    if tier.needs_root() {
        // The scenarios start the product's binaries, as a user would.
        process::run(build::cargo("build").args(["--workspace", "--bins"]))?;
    }
    let mut test = build::cargo("test");
    test.arg("--no-fail-fast")
        .args(targets.iter().flat_map(Target::selection));
    if !tier.needs_root() {
        test.args(["--lib", "--bins"]);
    }
    if tier.needs_root() && !privilege::is_root() {
        test.env(RUNNER, "sudo --preserve-env");
    }
    test.env("ERSATZ_TEST_VENV", workspace::venv())
        .env("ERSATZ_TEST_AGENTS", workspace::agents());
    process::run(test.arg("--").args(filter))
}

/// How cargo starts the test binaries on the one platform there is.
const RUNNER: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";
