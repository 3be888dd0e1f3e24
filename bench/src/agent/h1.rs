//! A small HTTP/1.1 client: a prepared request out, a status and a body in.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::job::Job;

/// A kept connection and what was read ahead on it.
pub(crate) struct Connection {
    io: TlsStream<TcpStream>,
    buffer: BytesMut,
}

/// A parsed response head.
pub(crate) struct Head {
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
}

impl Connection {
    pub(crate) fn new(io: TlsStream<TcpStream>) -> Self {
        Self {
            io,
            buffer: BytesMut::with_capacity(4096),
        }
    }

    /// Sends a whole request and reads the whole answer away.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.send(request).await?;
        let head = self.head().await?;
        self.skip(head.length.context("an answer without a length")?)
            .await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.io.write_all(bytes).await.context("writing")?;
        self.io.flush().await.context("flushing")
    }

    /// Reads a response head; anything but 200 is an error.
    pub(crate) async fn head(&mut self) -> Result<Head> {
        loop {
            if let Some((head, used)) = parse(&self.buffer)? {
                self.buffer.advance(used);
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// Reads and drops `left` bytes of body.
    pub(crate) async fn skip(&mut self, mut left: u64) -> Result<()> {
        loop {
            let held = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            self.buffer.advance(held);
            left -= held as u64;
            if left == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// What has been read and not yet used.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Reads more; the end of the connection is an error.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(16 * 1024);
        let read = self
            .io
            .read_buf(&mut self.buffer)
            .await
            .context("reading")?;
        ensure!(read > 0, "the connection ended within an answer");
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(used) = response.parse(bytes)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    ensure!(status == 200, "status {status}");
    let mut head = Head {
        length: None,
        chunked: false,
    };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = Some(std::str::from_utf8(header.value)?.parse()?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = true;
        }
    }
    Ok(Some((head, used)))
}

/// A request such as an agent's tool sends, with `body` bytes of JSON-like text.
pub(crate) fn request(job: &Job, method: &str, path: &str, body: usize) -> Result<Vec<u8>> {
    let content = if method == "POST" {
        format!("content-type: application/json\r\ncontent-length: {body}\r\n")
    } else {
        String::new()
    };
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: agent/1.0 (bench)\r\n\
         accept: application/json\r\naccept-encoding: gzip, deflate\r\nx-request-source: bench\r\n\
         authorization: {}\r\n{content}\r\n",
        job.host,
        job.authorization()?
    )
    .into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    Ok(bytes)
}
