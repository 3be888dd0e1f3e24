//! Streams of server-sent events: each must arrive whole, in order and soon.

use std::{
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use bytes::Buf;
use memchr::memmem;
use tokio::task::JoinSet;

use super::{Endpoint, h1, recorder::Recorder};
use crate::{
    job::{Job, Outcome},
    tls::Protocol,
};

/// Opens `streams` connections, then measures from the first event to the last.
pub(crate) async fn listen(
    job: &Job,
    endpoint: &Endpoint,
    streams: usize,
    per_second: u32,
    count: u32,
) -> Result<Outcome> {
    let mut connections = Vec::with_capacity(streams);
    for _ in 0..streams {
        connections.push(h1::Connection::new(endpoint.connect(Protocol::H1).await?));
    }
    let start = now() + Duration::from_millis(job.warmup_ms.max(1000));
    let path = format!(
        "/events?count={count}&hz={per_second}&start={}",
        start.as_micros()
    );
    let request: Rc<[u8]> = h1::request(job, "GET", &path, 0)?.into();
    let recorder = Rc::new(Recorder::default());
    let mut tasks = JoinSet::new();
    for connection in connections {
        let (request, recorder) = (Rc::clone(&request), Rc::clone(&recorder));
        tasks.spawn_local(async move {
            if let Err(error) = stream(connection, &request, count, &recorder).await {
                recorder.failed(&error);
            }
        });
    }
    tokio::time::sleep(start.saturating_sub(now())).await;
    let begin = recorder.open()?;
    while tasks.join_next().await.is_some() {}
    let outcome = recorder.outcome(begin.elapsed());
    let expected = streams as u64 * u64::from(count);
    ensure!(
        outcome.errors > 0 || recorder.measured() == expected,
        "events went missing"
    );
    Ok(outcome)
}

async fn stream(
    mut connection: h1::Connection,
    request: &[u8],
    count: u32,
    recorder: &Recorder,
) -> Result<()> {
    connection.send(request).await?;
    ensure!(
        connection.head().await?.chunked,
        "an event stream that is not chunked"
    );
    let mut expected = 0;
    let mut text = Vec::new();
    while chunk(&mut connection, &mut text).await? {
        while let Some(end) = memmem::find(&text, b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let (sequence, sent) = parse(&event).context("an event that is no event")?;
            ensure!(
                sequence == expected,
                "event {sequence} where {expected} was due"
            );
            expected += 1;
            recorder.done(now().saturating_sub(sent));
        }
    }
    ensure!(expected == count, "{expected} events of {count}");
    Ok(())
}

/// Appends the next chunk to `text`; `false` after the last one.
async fn chunk(connection: &mut h1::Connection, text: &mut Vec<u8>) -> Result<bool> {
    let size = loop {
        match httparse::parse_chunk_size(connection.buffer()) {
            Ok(httparse::Status::Complete((used, size))) => {
                connection.buffer().advance(used);
                break usize::try_from(size)?;
            }
            Ok(httparse::Status::Partial) => connection.fill().await?,
            Err(_) => anyhow::bail!("a chunk size that is none"),
        }
    };
    while connection.buffer().len() < size + 2 {
        connection.fill().await?;
    }
    let chunk = connection.buffer().split_to(size + 2);
    text.extend(chunk.iter().take(size));
    Ok(size > 0)
}

/// `data: SEQUENCE MICROSECONDS …`
fn parse(event: &[u8]) -> Option<(u32, Duration)> {
    let mut fields = std::str::from_utf8(event)
        .ok()?
        .strip_prefix("data: ")?
        .split(' ');
    let sequence = fields.next()?.parse().ok()?;
    Some((sequence, Duration::from_nanos(fields.next()?.parse().ok()?)))
}

/// The time that sender and receiver share, being on one machine.
pub(crate) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
