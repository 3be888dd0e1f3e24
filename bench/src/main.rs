//! The bench: ersatz side by side with a direct connection, a plain TCP relay, a
//! bare swap, Envoy and mitmproxy, all in one run and under the same load.
//!
//! One binary plays every part that is ours: the coordinator, the load agent,
//! the upstream, the relay and the bare swap.

mod agent;
mod goal;
mod job;
mod lab;
mod load;
mod meter;
mod pki;
mod plan;
mod report;
mod run;
mod sample;
mod subject;
mod tls;
mod upstream;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use lab::Lab;
use plan::{Effort, Scenario};
use report::Report;
use run::Run;
use subject::{Kind, Programs, bare, relay};

/// The host that is asked in every job but those for fresh names.
const HOST: &str = "api.bench.test";

/// Measures ersatz side by side with other ways to the upstream.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: Measure,
}

#[derive(clap::Args)]
struct Measure {
    /// One short round: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose name begins so; may be given again.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only these subjects; may be given again.
    #[arg(long, value_name = "NAME")]
    subject: Vec<Kind>,
    /// Milliseconds of each measured window.
    #[arg(long, value_name = "MS")]
    duration: Option<u64>,
    /// Rounds of each scenario.
    #[arg(long)]
    rounds: Option<usize>,
    /// Fail when a goal is missed.
    #[arg(long)]
    goals: bool,
    /// Directory of the programs `ersatz` and `ersatzd`.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Python environment that has Envoy and mitmproxy.
    #[arg(long, default_value = "target/bench/venv")]
    venv: PathBuf,
    /// Where the results go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Part {
    /// The load agent.
    #[command(hide = true)]
    Agent,
    /// The upstream.
    #[command(hide = true)]
    Upstream {
        addr: SocketAddr,
        certificates: PathBuf,
        secret: String,
    },
    /// The plain relay.
    #[command(hide = true)]
    Relay {
        listen: SocketAddr,
        upstream: SocketAddr,
    },
    /// The bare swap.
    #[command(hide = true)]
    Bare(bare::Settings),
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let Some(part) = arguments.part else {
        return measure(&arguments.run);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match part {
            Part::Agent => agent::run().await,
            Part::Upstream {
                addr,
                certificates,
                secret,
            } => upstream::run(addr, &certificates, &secret).await,
            Part::Relay { listen, upstream } => relay::run(listen, upstream).await,
            Part::Bare(settings) => bare::run(settings).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Measure) -> Result<ExitCode> {
    lab::enter()?;
    let effort = arguments.effort();
    let scenarios = arguments.scenarios(&effort);
    ensure!(!scenarios.is_empty(), "no scenario has such a name");
    let kinds = arguments.kinds();
    let programs = Programs {
        ours: whole(&arguments.programs)?,
        venv: whole(&arguments.venv)?,
    };
    fs::create_dir_all(&arguments.out)?;
    let lab = Lab::build(&whole(&arguments.out)?)?;
    let mut run = Run::start(&lab, &programs, effort, &kinds)?;
    for scenario in &scenarios {
        eprintln!("{}", scenario.title);
        run.scenario(scenario)?;
    }
    let report = Report::new(&scenarios, &run.samples, kinds, run.voids, effort)?;
    report.publish(&arguments.out)?;
    let bad = !report.voids.is_empty() || (arguments.goals && report.missed() > 0);
    Ok(if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Measure {
    fn effort(&self) -> Effort {
        let (rounds, duration) = if self.quick { (1, 700) } else { (3, 2000) };
        Effort {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            warmup_ms: if self.quick { 200 } else { 500 },
            duration_ms: self.duration.unwrap_or(duration).max(100),
            quick: self.quick,
        }
    }

    fn scenarios(&self, effort: &Effort) -> Vec<Scenario> {
        let wanted = |scenario: &Scenario| {
            self.only.is_empty() || self.only.iter().any(|name| scenario.name.starts_with(name))
        };
        plan::scenarios(effort).into_iter().filter(wanted).collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        let all = report::COLUMNS.into_iter();
        all.filter(|kind| self.subject.is_empty() || self.subject.contains(kind))
            .collect()
    }
}

/// The path from the root: namespaces and sandboxes have their own idea of "here".
fn whole(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}
