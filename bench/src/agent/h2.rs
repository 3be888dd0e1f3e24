//! A small HTTP/2 client on the `h2` crate.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::Request;

use super::Endpoint;
use crate::{job::Job, tls::Protocol};

/// Large enough that flow control of the load generator never bounds a transfer.
const WINDOW: u32 = 4 << 20;

/// Opens a connection and drives it in the background.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Bytes>> {
    let io = endpoint.connect(Protocol::H2).await?;
    ensure!(
        io.get_ref().1.alpn_protocol() == Some(b"h2"),
        "h2 was not negotiated"
    );
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(io)
        .await
        .context("HTTP/2 handshake")?;
    tokio::task::spawn_local(connection);
    Ok(client.ready().await?)
}

/// Sends a request with a whole body and reads the whole answer away.
pub(crate) async fn exchange(
    client: &mut SendRequest<Bytes>,
    request: &Request<()>,
    body: &Bytes,
) -> Result<u64> {
    futures_util::future::poll_fn(|cx| client.poll_ready(cx)).await?;
    let (response, mut send) = client.send_request(request.clone(), body.is_empty())?;
    if !body.is_empty() {
        send.send_data(body.clone(), true)?;
    }
    let response = response.await.context("waiting for the answer")?;
    ensure!(
        response.status() == 200,
        "status {}",
        response.status().as_u16()
    );
    drain(response.into_body()).await
}

/// Reads a body to its end, giving its window back as it goes.
pub(crate) async fn drain(mut body: RecvStream) -> Result<u64> {
    let mut total = 0;
    while let Some(data) = body.data().await {
        let data = data.context("reading the body")?;
        total += data.len() as u64;
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(total)
}

/// The HTTP/2 form of [`super::h1::request`].
pub(crate) fn request(job: &Job, method: &str, path: &str) -> Result<Request<()>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", job.host))
        .header("user-agent", "agent/1.0 (bench)")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, deflate")
        .header("x-request-source", "bench")
        .header("authorization", job.authorization()?);
    if method == "POST" {
        builder = builder.header("content-type", "application/json");
    }
    Ok(builder.body(())?)
}
