//! HTTP/2 on the `h2` crate.

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{Request, Response, header::AUTHORIZATION};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::route::{CHUNK, Gate, Route, SMALL, Schedule};

/// Large enough that flow control of the upstream never bounds a transfer.
const WINDOW: u32 = 4 << 20;

/// Serves one connection to its end.
pub(crate) async fn serve(io: TlsStream<TcpStream>, gate: Gate) -> Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(1024)
        .handshake(io)
        .await?;
    let small = Bytes::from(vec![b'x'; SMALL]);
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let route = Route::parse(path(&request));
        if admitted(&request, &gate) && matches!(route, Some(Route::Small)) {
            immediate(respond, &small)?;
        } else {
            tokio::spawn(answer(request, respond, route, gate.clone(), small.clone()));
        }
    }
    Ok(())
}

fn path(request: &Request<RecvStream>) -> &str {
    request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
}

fn admitted(request: &Request<RecvStream>, gate: &Gate) -> bool {
    request
        .headers()
        .get(AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == gate.as_bytes())
}

/// Answers within the connection's own task.
fn immediate(mut respond: SendResponse<Bytes>, small: &Bytes) -> Result<()> {
    let mut send = respond.send_response(head(200, Some(SMALL as u64))?, false)?;
    Ok(send.send_data(small.clone(), true)?)
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    route: Option<Route>,
    gate: Gate,
    small: Bytes,
) -> Result<()> {
    if !admitted(&request, &gate) {
        respond.send_response(head(401, None)?, true)?;
        return Ok(());
    }
    match route {
        Some(Route::Small | Route::Sink) => {
            swallow(request.into_body()).await?;
            immediate(respond, &small)
        }
        Some(Route::Bytes(total)) => {
            bytes(
                respond.send_response(head(200, Some(total))?, false)?,
                total,
            )
            .await
        }
        Some(Route::Events(schedule)) => {
            events(respond.send_response(head(200, None)?, false)?, schedule).await
        }
        None => Ok(respond.send_response(head(404, None)?, true).map(drop)?),
    }
}

async fn swallow(mut body: RecvStream) -> Result<()> {
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(())
}

async fn bytes(mut send: SendStream<Bytes>, total: u64) -> Result<()> {
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let mut left = total;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        send.reserve_capacity(want);
        let mut take = send.capacity().min(want);
        if take == 0 {
            take = poll_fn(|cx| send.poll_capacity(cx))
                .await
                .context("closed")??
                .min(want);
        }
        left -= take as u64;
        send.send_data(chunk.slice(..take), left == 0)?;
    }
    Ok(())
}

async fn events(mut send: SendStream<Bytes>, schedule: Schedule) -> Result<()> {
    let mut text = String::new();
    for n in 0..schedule.count {
        schedule.event(n, &mut text).await;
        send.send_data(Bytes::from(text.clone()), n + 1 == schedule.count)?;
    }
    Ok(())
}

fn head(status: u16, length: Option<u64>) -> Result<Response<()>> {
    let mut builder = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("date", "Mon, 02 Nov 2026 10:00:00 GMT")
        .header("cache-control", "no-store")
        .header("x-request-id", "6f1c2a52-6d0b-4c53-9d5c-2b7c7e1f5a10");
    if let Some(length) = length {
        builder = builder.header("content-length", length);
    }
    Ok(builder.body(())?)
}
