//! A WebSocket that sends every message back (RFC 6455).

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::body::{self, Outgoing};

/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

pub(super) fn accept(mut request: Request<Incoming>) -> Result<Response<Outgoing>> {
    let key = request
        .headers()
        .get(SEC_WEBSOCKET_KEY)
        .context("no WebSocket key")?;
    let hash = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        [key.as_bytes(), GUID.as_bytes()].concat().as_slice(),
    );
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, BASE64_STANDARD.encode(hash))
        .body(body::full(""))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    Ok(response)
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    loop {
        let (first, payload) = frame(&mut stream).await?;
        let opcode = first & 0x0f;
        let answer = if opcode == PING {
            (first & 0xf0) | PONG
        } else {
            first
        };
        send(&mut stream, answer, &payload).await?;
        if opcode == CLOSE {
            return Ok(());
        }
    }
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let second = stream.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length.min(1 << 24))?];
    stream.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((first, payload))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), first: u8, payload: &[u8]) -> Result<()> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(u8::try_from(length)?),
        length @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend(u16::try_from(length)?.to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}
