//! HTTP/1.1: parse, answer, again.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::route::{CHUNK, Gate, Route, SMALL, Schedule};

struct Request {
    route: Option<Route>,
    length: u64,
    admitted: bool,
}

/// Serves one connection to its end.
pub(crate) async fn serve(mut io: TlsStream<TcpStream>, gate: Gate) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        let request = match parse(&buffer, &gate)? {
            Some((request, used)) => {
                buffer.advance(used);
                request
            }
            None if fill(&mut io, &mut buffer).await? => continue,
            None => return Ok(()),
        };
        swallow(&mut io, &mut buffer, request.length).await?;
        answer(&mut io, &request).await?;
        io.flush().await?;
    }
}

async fn answer(io: &mut TlsStream<TcpStream>, request: &Request) -> Result<()> {
    if !request.admitted {
        io.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
            .await?;
        return Ok(());
    }
    match &request.route {
        Some(Route::Small | Route::Sink) => {
            let mut bytes = head(&format!("content-length: {SMALL}"), "application/json");
            bytes.resize(bytes.len() + SMALL, b'x');
            io.write_all(&bytes).await?;
        }
        Some(Route::Bytes(total)) => bytes(io, *total).await?,
        Some(Route::Events(schedule)) => events(io, *schedule).await?,
        None => {
            io.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                .await?;
        }
    }
    Ok(())
}

async fn bytes(io: &mut TlsStream<TcpStream>, total: u64) -> Result<()> {
    io.write_all(&head(
        &format!("content-length: {total}"),
        "application/octet-stream",
    ))
    .await?;
    let chunk = vec![b'x'; CHUNK];
    let mut left = total;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        io.write_all(chunk.get(..take).context("a chunk")?).await?;
        left -= take as u64;
    }
    Ok(())
}

async fn events(io: &mut TlsStream<TcpStream>, schedule: Schedule) -> Result<()> {
    io.write_all(&head("transfer-encoding: chunked", "text/event-stream"))
        .await?;
    io.flush().await?;
    let mut text = String::new();
    for n in 0..schedule.count {
        schedule.event(n, &mut text).await;
        io.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
            .await?;
        io.flush().await?;
    }
    Ok(io.write_all(b"0\r\n\r\n").await?)
}

fn head(length: &str, content_type: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{length}\r\n\
         date: Mon, 02 Nov 2026 10:00:00 GMT\r\ncache-control: no-store\r\n\
         x-request-id: 6f1c2a52-6d0b-4c53-9d5c-2b7c7e1f5a10\r\n\r\n"
    )
    .into_bytes()
}

/// Reads and drops a body of `left` bytes.
async fn swallow(
    io: &mut TlsStream<TcpStream>,
    buffer: &mut BytesMut,
    mut left: u64,
) -> Result<()> {
    loop {
        let held = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        buffer.advance(held);
        left -= held as u64;
        if left == 0 {
            return Ok(());
        }
        ensure!(
            fill(io, buffer).await?,
            "the connection ended within a body"
        );
    }
}

async fn fill(io: &mut TlsStream<TcpStream>, buffer: &mut BytesMut) -> Result<bool> {
    buffer.reserve(16 * 1024);
    Ok(io.read_buf(buffer).await? > 0)
}

fn parse(bytes: &[u8], gate: &Gate) -> Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(used) = parsed.parse(bytes)? else {
        return Ok(None);
    };
    let route = parsed.path.and_then(Route::parse);
    let mut request = Request {
        route,
        length: 0,
        admitted: false,
    };
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("authorization") {
            request.admitted = header.value == gate.as_bytes();
        } else if header.name.eq_ignore_ascii_case("content-length") {
            request.length = std::str::from_utf8(header.value)?.parse()?;
        }
        let chunked = header.name.eq_ignore_ascii_case("transfer-encoding");
        ensure!(!chunked, "a body whose length the proxy has hidden");
    }
    Ok(Some((request, used)))
}
