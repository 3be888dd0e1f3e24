//! One large transfer, either way, on either protocol.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::SendStream;

use super::{Endpoint, h1, h2 as http2, recorder::Recorder};
use crate::{
    job::{Job, Outcome},
    tls::Protocol,
};

/// Written at once: four full TLS records.
const CHUNK: usize = 64 * 1024;

/// Transfers `bytes` and counts them.
pub(crate) async fn transfer(
    job: &Job,
    endpoint: &Endpoint,
    protocol: Protocol,
    bytes: u64,
    upload: bool,
) -> Result<Outcome> {
    let recorder = Recorder::default();
    let begin = match (protocol, upload) {
        (Protocol::H1, false) => h1_down(job, endpoint, bytes, &recorder).await?,
        (Protocol::H1, true) => h1_up(job, endpoint, bytes, &recorder).await?,
        (Protocol::H2, false) => h2_down(job, endpoint, bytes, &recorder).await?,
        (Protocol::H2, true) => h2_up(job, endpoint, bytes, &recorder).await?,
    };
    Ok(Outcome {
        units: bytes,
        ..recorder.outcome(begin.elapsed())
    })
}

async fn h1_down(job: &Job, to: &Endpoint, bytes: u64, recorder: &Recorder) -> Result<Instant> {
    let mut connection = h1::Connection::new(to.connect(Protocol::H1).await?);
    connection
        .exchange(&h1::request(job, "GET", "/small", 0)?)
        .await?;
    let begin = recorder.open()?;
    connection
        .send(&h1::request(job, "GET", &format!("/bytes/{bytes}"), 0)?)
        .await?;
    let head = connection.head().await?;
    ensure!(
        !head.chunked && head.length == Some(bytes),
        "the answer's length was changed"
    );
    connection.skip(bytes).await?;
    Ok(begin)
}

async fn h1_up(job: &Job, to: &Endpoint, bytes: u64, recorder: &Recorder) -> Result<Instant> {
    let mut connection = h1::Connection::new(to.connect(Protocol::H1).await?);
    connection
        .exchange(&h1::request(job, "GET", "/small", 0)?)
        .await?;
    let begin = recorder.open()?;
    let head = h1::request(job, "POST", "/sink", 0)?;
    let head = String::from_utf8(head)?.replace(
        "content-length: 0\r\n",
        &format!("content-length: {bytes}\r\n"),
    );
    connection.send(head.as_bytes()).await?;
    let chunk = vec![b'x'; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        connection
            .send(chunk.get(..take).context("a chunk")?)
            .await?;
        left -= take as u64;
    }
    let head = connection.head().await?;
    connection
        .skip(head.length.context("an answer without a length")?)
        .await?;
    Ok(begin)
}

async fn h2_down(job: &Job, to: &Endpoint, bytes: u64, recorder: &Recorder) -> Result<Instant> {
    let mut client = http2::connect(to).await?;
    http2::exchange(
        &mut client,
        &http2::request(job, "GET", "/small")?,
        &Bytes::new(),
    )
    .await?;
    let begin = recorder.open()?;
    let request = http2::request(job, "GET", &format!("/bytes/{bytes}"))?;
    let received = http2::exchange(&mut client, &request, &Bytes::new()).await?;
    ensure!(received == bytes, "{received} bytes of {bytes}");
    Ok(begin)
}

async fn h2_up(job: &Job, to: &Endpoint, bytes: u64, recorder: &Recorder) -> Result<Instant> {
    let mut client = http2::connect(to).await?;
    http2::exchange(
        &mut client,
        &http2::request(job, "GET", "/small")?,
        &Bytes::new(),
    )
    .await?;
    let begin = recorder.open()?;
    let mut request = http2::request(job, "POST", "/sink")?;
    request.headers_mut().insert("content-length", bytes.into());
    let (response, mut send) = client.send_request(request, false)?;
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let mut left = bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let take = capacity(&mut send, want).await?.min(want);
        left -= take as u64;
        send.send_data(chunk.slice(..take), left == 0)?;
    }
    let response = response.await?;
    ensure!(
        response.status() == 200,
        "status {}",
        response.status().as_u16()
    );
    http2::drain(response.into_body()).await?;
    Ok(begin)
}

/// Waits until the peer lets some of `want` bytes be sent.
async fn capacity(send: &mut SendStream<Bytes>, want: usize) -> Result<usize> {
    send.reserve_capacity(want);
    loop {
        if send.capacity() > 0 {
            return Ok(send.capacity());
        }
        poll_fn(|cx| send.poll_capacity(cx))
            .await
            .context("the stream was closed")??;
    }
}
