//! HTTP on a fresh upstream connection. The connection's own task ends with its last sender.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::UpstreamError;
use crate::http::Outgoing;

/// Bytes of an HTTP/2 response head that are taken at most. Of HTTP/1.1 the library takes 100
/// fields.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// HTTP/1.1 read and write buffers grow up to this.
const MAX_BUFFER: usize = 64 * 1024;
/// HTTP/2 flow control: bytes under way on one stream, and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Largest HTTP/2 frame taken: downloads cost less in larger ones.
const MAX_FRAME: u32 = 64 * 1024;
const SEND_BUFFER: usize = 128 * 1024;
/// A silent upstream is asked whether it still lives, and given up when it says nothing.
const PING_AFTER: Duration = Duration::from_mins(1);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn h1<S>(stream: S) -> Result<http1::SendRequest<Outgoing>, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// How many streams an HTTP/2 upstream takes at once, as its settings say at the moment.
#[derive(Clone)]
pub(super) struct Limit(Arc<AtomicUsize>);

impl Limit {
    pub(super) fn streams(&self) -> usize {
        self.0.load(Relaxed).max(1)
    }
}

pub(super) async fn h2<S>(stream: S) -> Result<(http2::SendRequest<Outgoing>, Limit), UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD_BYTES)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await?;
    let limit = Limit(Arc::new(AtomicUsize::new(
        connection.current_max_send_streams(),
    )));
    let told = limit.clone();
    tokio::spawn(async move {
        // The settings can be asked for only here, where the connection lives.
        let driven = poll_fn(|cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            told.0.store(connection.current_max_send_streams(), Relaxed);
            ended
        });
        if let Err(error) = driven.await {
            debug!(%error, "upstream connection ended");
        }
    });
    Ok((sender, limit))
}
