//! The bench: ersatz side by side with a direct connection, a plain TCP relay, a
//! bare swap, Envoy and mitmproxy, all in one run and under the same load.
//!
//! One binary plays every part that is ours: the coordinator, the load agent,
//! the upstream, the relay and the bare swap.

mod agent;
mod job;
mod pki;
mod subject;
mod tls;
mod upstream;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use subject::{bare, relay};

/// The host that is asked in every job but those for fresh names.
const HOST: &str = "api.bench.test";

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Makes the certificates.
    Certificates { dir: PathBuf },
    /// The load agent.
    Agent,
    /// The upstream.
    Upstream {
        addr: SocketAddr,
        certificates: PathBuf,
        secret: String,
    },
    /// The plain relay.
    Relay {
        listen: SocketAddr,
        upstream: SocketAddr,
    },
    /// The bare swap.
    Bare(bare::Settings),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match arguments.part {
            Part::Certificates { dir } => certificates(&dir),
            Part::Agent => agent::run().await,
            Part::Upstream {
                addr,
                certificates,
                secret,
            } => upstream::run(addr, &certificates, &secret).await,
            Part::Relay { listen, upstream } => relay::run(listen, upstream).await,
            Part::Bare(settings) => bare::run(settings).await,
        }
    })
}

fn certificates(dir: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let authority = pki::Authority::generate()?;
    authority.write(dir)?;
    authority.issue(dir, "upstream", &[HOST, "*.bench.test"])?;
    authority.issue(dir, "proxy", &[HOST, "*.bench.test"])
}
