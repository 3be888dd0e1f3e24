//! DNS over TCP, RFC 7766: messages with their length in front, one after the other.

use std::{io, time::Duration};

use ersatz_policy::Reason;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    View,
    answer::{Transport, answer},
};

/// Time in which the next whole query must arrive, and an answer be taken.
const IDLE: Duration = Duration::from_secs(10);

/// Octets of the largest query read; a longer one ends the connection.
const QUERY: u16 = 4096;

/// Answers the queries of one connection until it is closed, is idle, or breaks a bound.
///
/// The caller knows whose connection it is: `view` is that sandbox's.
pub async fn serve_tcp<S>(view: &dyn View, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(_open) = view.limits().connection() else {
        view.refused("", "", Reason::Overloaded);
        return;
    };
    let mut buffer = Vec::new();
    while let Ok(Ok(true)) = timeout(IDLE, receive(&mut stream, &mut buffer)).await {
        let sent = timeout(IDLE, respond(view, &mut stream, &buffer)).await;
        if !matches!(sent, Ok(Ok(true))) {
            break;
        }
    }
}

/// Reads one query into `buffer`; `false` when it is longer than any should be.
async fn receive<S>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<bool>
where
    S: AsyncRead + Unpin,
{
    let length = stream.read_u16().await?;
    if length > QUERY {
        return Ok(false);
    }
    buffer.resize(usize::from(length), 0);
    stream.read_exact(buffer).await?;
    Ok(true)
}

/// Sends the answer; `false` when there is none to give, which ends the connection.
async fn respond<S>(view: &dyn View, stream: &mut S, query: &[u8]) -> io::Result<bool>
where
    S: AsyncWrite + Unpin,
{
    let Some(octets) = answer(view, query, Transport::Tcp) else {
        return Ok(false);
    };
    let length = u16::try_from(octets.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(octets.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&octets);
    stream.write_all(&framed).await?;
    Ok(true)
}
