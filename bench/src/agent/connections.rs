//! New connections, handshakes to new names, and connections that are only held.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;

use super::{Endpoint, h1, locate, recorder::Recorder};
use crate::{
    job::{Job, Outcome},
    tls::Protocol,
};

/// Connects, shakes hands, asks once, closes; again and again, at most `most` times.
pub(crate) async fn churn(
    job: &Job,
    endpoint: &Endpoint,
    concurrency: usize,
    most: usize,
) -> Result<Outcome> {
    let request: Rc<[u8]> = h1::request(job, "GET", "/small", 0)?.into();
    let recorder = Rc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let most = most.div_ceil(concurrency);
        let (endpoint, request) = (endpoint.clone(), Rc::clone(&request));
        tasks.spawn_local(churn_loop(endpoint, request, Rc::clone(&recorder), most));
    }
    tokio::time::sleep(Duration::from_millis(job.warmup_ms)).await;
    let begin = recorder.open()?;
    let end = tokio::time::sleep(Duration::from_millis(job.duration_ms));
    tokio::select! {
        () = end => {}
        () = async { while tasks.join_next().await.is_some() {} } => {}
    }
    let window = begin.elapsed();
    let outcome = recorder.outcome(window);
    tasks.shutdown().await;
    Ok(outcome)
}

async fn churn_loop(endpoint: Endpoint, request: Rc<[u8]>, recorder: Rc<Recorder>, most: usize) {
    for _ in 0..most {
        let begin = Instant::now();
        match once(&endpoint, &request).await {
            Ok(()) => recorder.done(begin.elapsed()),
            Err(error) => return recorder.failed(&error),
        }
    }
}

async fn once(endpoint: &Endpoint, request: &[u8]) -> Result<()> {
    let mut connection = h1::Connection::new(endpoint.connect(Protocol::H1).await?);
    connection.exchange(request).await
}

/// Shakes hands `count` times, one after the other: with `FRESH-N.DOMAIN`, where
/// the domain is the host's, or with the host itself. Names are resolved before.
pub(crate) async fn handshakes(
    job: &Job,
    endpoint: &Endpoint,
    fresh: Option<&str>,
    count: usize,
) -> Result<Outcome> {
    let domain = job
        .host
        .split_once('.')
        .map_or(job.host.as_str(), |(_, rest)| rest);
    let mut targets = Vec::with_capacity(count);
    for n in 0..count {
        let host = fresh.map_or_else(|| job.host.clone(), |tag| format!("{tag}-{n}.{domain}"));
        targets.push((locate(job, &host).await?, ServerName::try_from(host)?));
    }
    let recorder = Recorder::default();
    let begin = recorder.open()?;
    for (addr, host) in targets {
        let start = Instant::now();
        match endpoint.connect_to(addr, host, Protocol::H1).await {
            Ok(_) => recorder.done(start.elapsed()),
            Err(error) => recorder.failed(&error),
        }
    }
    Ok(recorder.outcome(begin.elapsed()))
}

/// Opens connections, asks once on each, and hands them out to be held.
pub(crate) async fn idle(
    job: &Job,
    endpoint: &Endpoint,
    count: usize,
) -> Result<(Outcome, Vec<h1::Connection>)> {
    let request = h1::request(job, "GET", "/small", 0)?;
    let recorder = Recorder::default();
    once(endpoint, &request).await?;
    let begin = recorder.open()?;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        let mut connection = h1::Connection::new(endpoint.connect(Protocol::H1).await?);
        connection.exchange(&request).await?;
        recorder.done(start.elapsed());
        held.push(connection);
    }
    Ok((recorder.outcome(begin.elapsed()), held))
}
