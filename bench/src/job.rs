//! What the coordinator asks of the load agent, and what it gets back: one JSON line each.

use std::{env, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::tls::Protocol;

/// One piece of load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) work: Work,
    /// Where to connect; `None` resolves the host by the system's resolver.
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) host: String,
    /// Trust bundle, PEM; `None` is what `SSL_CERT_FILE` names.
    pub(crate) ca: Option<PathBuf>,
    /// The bearer token that is sent; `None` is what `BENCH_TOKEN` holds.
    pub(crate) token: Option<String>,
    pub(crate) warmup_ms: u64,
    pub(crate) duration_ms: u64,
}

/// The kinds of load.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Work {
    /// A closed loop of small requests on connections that are kept.
    Requests {
        protocol: Protocol,
        connections: usize,
        streams: usize,
        body: usize,
    },
    /// A closed loop of connection, handshake, one request, close.
    Connections { concurrency: usize, most: usize },
    /// Handshakes one after the other: each to a new name under the host, or all to the host.
    Handshakes { fresh: Option<String>, count: usize },
    /// One transfer.
    Bulk {
        protocol: Protocol,
        bytes: u64,
        upload: bool,
    },
    /// Streams of server-sent events, a connection each.
    Events {
        streams: usize,
        per_second: u32,
        count: u32,
    },
    /// Connections opened, used once and then held until the next line.
    Idle { connections: usize },
}

impl Job {
    /// The trust bundle's path.
    pub(crate) fn trust(&self) -> Result<PathBuf> {
        match &self.ca {
            Some(path) => Ok(path.clone()),
            None => env::var("SSL_CERT_FILE")
                .map(Into::into)
                .context("no SSL_CERT_FILE"),
        }
    }

    /// The value of the `Authorization` header.
    pub(crate) fn authorization(&self) -> Result<String> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => env::var("BENCH_TOKEN").context("no BENCH_TOKEN")?,
        };
        Ok(format!("Bearer {token}"))
    }
}

/// A line from the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    Ready,
    /// The measured window begins.
    Begin,
    /// The measured window is over.
    Done(Outcome),
    Failed(String),
}

/// What was done within the measured window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    /// Requests, connections, events or bytes, as the work counts.
    pub(crate) units: u64,
    /// Anything that was not the whole right answer: one is enough to void the run.
    pub(crate) errors: u64,
    /// The first error, in words.
    pub(crate) error: Option<String>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}
