//! The fake world: every server that a sandbox may or may not reach.
//!
//! One process plays all of them, at addresses of its own for every name, so
//! that a test can tell which one was reached. It answers as real servers do
//! and writes what it received into a ledger that tests compare with the audit.

mod answers;
mod body;
mod certificates;
mod dns;
mod git;
mod http;
mod ledger;
pub mod names;
mod plain;
pub mod provider;
mod recorder;
mod tls;
mod websocket;
pub mod witness;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use self::{certificates::Authority, ledger::Ledger};

/// What a world is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Where `ca.pem` and `ledger.jsonl` are written and `repositories/` is read.
    pub directory: PathBuf,
    /// What a host wants to see, by host; a host that is not named serves anybody.
    pub accept: BTreeMap<String, Vec<Accepted>>,
}

/// A header that opens a host, whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// The header's name, in lower case.
    pub header: String,
    /// Its whole value.
    pub value: String,
}

/// What every server of the world shares.
struct World {
    config: Config,
    ledger: Ledger,
    authority: Authority,
}

/// Serves until the process is ended; calls `ready` once all sockets listen.
pub async fn serve(config: Config, ready: impl FnOnce()) -> Result<()> {
    let ledger = Ledger::create(&config.directory.join("ledger.jsonl"))?;
    let authority = Authority::new()?;
    std::fs::write(config.directory.join("ca.pem"), authority.pem())?;
    let world = Arc::new(World {
        config,
        ledger,
        authority,
    });

    let mut servers = tokio::task::JoinSet::new();
    for port in names::TLS_PORTS {
        servers.spawn(tls::serve(plain::listen(port)?, Arc::clone(&world)));
    }
    servers.spawn(http::serve_plain(plain::listen(80)?, Arc::clone(&world)));
    servers.spawn(plain::echo(
        plain::listen(names::ECHO_PORT)?,
        Arc::clone(&world),
    ));
    servers.spawn(plain::greet(
        plain::listen(names::GREETING_PORT)?,
        Arc::clone(&world),
    ));
    servers.spawn(dns::serve_udp(dns::bind().await?, Arc::clone(&world)));
    servers.spawn(dns::serve_tcp(plain::listen(53)?, Arc::clone(&world)));
    ready();
    servers
        .join_next()
        .await
        .context("the world has no servers")??
}
