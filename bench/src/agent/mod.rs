//! The load generator: reads jobs from standard input, one JSON line each, and
//! does them on one thread.
//!
//! It is the same program for every subject and parses no more of an answer
//! than it needs to know that it is whole and right, so that the core it
//! shares with the upstream bounds the rates as late as possible.

mod bulk;
mod connections;
mod events;
mod h1;
mod h2;
mod recorder;
mod requests;

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    job::{Job, Message, Outcome, Work},
    tls::{self, Protocol},
};

/// Serves jobs until standard input ends.
pub(crate) async fn run() -> Result<()> {
    // Nothing runs between two jobs, so that waiting may block the thread.
    let mut lines = std::io::stdin().lines();
    say(&Message::Ready)?;
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            continue;
        }
        let job: Job = serde_json::from_str(&line).context("a job that is no job")?;
        let held = match perform(job).await {
            Ok((outcome, held)) => {
                say(&Message::Done(outcome))?;
                held
            }
            Err(error) => {
                say(&Message::Failed(format!("{error:#}")))?;
                Vec::new()
            }
        };
        if !held.is_empty() {
            lines.next().transpose()?;
        }
    }
    Ok(())
}

async fn perform(job: Job) -> Result<(Outcome, Vec<h1::Connection>)> {
    let endpoint = Endpoint::new(&job).await?;
    let outcome = match job.work {
        Work::Requests {
            protocol: Protocol::H1,
            connections,
            body,
            ..
        } => requests::h1(&job, &endpoint, connections, body).await?,
        Work::Requests {
            protocol: Protocol::H2,
            connections,
            streams,
            body,
        } => requests::h2(&job, &endpoint, connections, streams, body).await?,
        Work::Connections { concurrency, most } => {
            connections::churn(&job, &endpoint, concurrency, most).await?
        }
        Work::Handshakes { ref fresh, count } => {
            connections::handshakes(&job, &endpoint, fresh.as_deref(), count).await?
        }
        Work::Bulk {
            protocol,
            bytes,
            upload,
        } => bulk::transfer(&job, &endpoint, protocol, bytes, upload).await?,
        Work::Events {
            streams,
            per_second,
            count,
        } => events::listen(&job, &endpoint, streams, per_second, count).await?,
        Work::Idle { connections } => return connections::idle(&job, &endpoint, connections).await,
    };
    Ok((outcome, Vec::new()))
}

/// Writes one message line.
pub(crate) fn say(message: &Message) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, message)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Where a job's connections go.
#[derive(Clone)]
pub(crate) struct Endpoint {
    addr: SocketAddr,
    host: ServerName<'static>,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
}

impl Endpoint {
    async fn new(job: &Job) -> Result<Self> {
        Ok(Self {
            addr: locate(job, &job.host).await?,
            host: ServerName::try_from(job.host.clone())?,
            h1: tls::client(&job.trust()?, Protocol::H1)?,
            h2: tls::client(&job.trust()?, Protocol::H2)?,
        })
    }

    pub(crate) async fn connect(&self, protocol: Protocol) -> Result<TlsStream<TcpStream>> {
        self.connect_to(self.addr, self.host.clone(), protocol)
            .await
    }

    pub(crate) async fn connect_to(
        &self,
        addr: SocketAddr,
        host: ServerName<'static>,
        protocol: Protocol,
    ) -> Result<TlsStream<TcpStream>> {
        let config = match protocol {
            Protocol::H1 => &self.h1,
            Protocol::H2 => &self.h2,
        };
        let tcp = TcpStream::connect(addr).await.context("connecting")?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(config))
            .connect(host, tcp)
            .await
            .context("TLS handshake")
    }
}

/// The address of `host`: the job's own, or what the resolver says.
pub(crate) async fn locate(job: &Job, host: &str) -> Result<SocketAddr> {
    match job.addr {
        Some(addr) => Ok(addr),
        None => tokio::net::lookup_host((host, 443))
            .await
            .with_context(|| format!("resolving {host}"))?
            .next()
            .with_context(|| format!("{host} has no address")),
    }
}
