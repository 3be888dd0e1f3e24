//! A TCP connection that is read in large pieces, and whose first bytes can be read again.
//!
//! rustls asks for 4 KiB at a time, which costs a bulk transfer four system calls a TLS record.
//! Here one call takes what the kernel has, by way of a buffer that the whole thread shares; only
//! what the caller did not take yet is kept, so that an idle connection holds nothing.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

/// Bytes taken by one system call: four full TLS records.
const READ: usize = 64 * 1024;
/// Bytes asked for at first: a usual `ClientHello` comes whole in them.
const FIRST_READ: usize = 2048;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A connection of a sandbox, or to an upstream.
pub(crate) struct Socket {
    tcp: TcpStream,
    /// Bytes that were received; those before `at` have been read.
    ahead: Vec<u8>,
    at: usize,
    /// Whether what was read is still kept, because it may have to be read again.
    keep: bool,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            ahead: Vec::new(),
            at: 0,
            keep: false,
        }
    }

    /// One whose bytes are all kept until [`Socket::settle`].
    pub(crate) fn recording(tcp: TcpStream) -> Self {
        Self {
            tcp,
            ahead: Vec::with_capacity(FIRST_READ),
            at: 0,
            keep: true,
        }
    }

    /// Waits for more bytes without reading them; gives how many came, 0 at the end.
    pub(crate) async fn receive(&mut self) -> io::Result<usize> {
        self.ahead.reserve(FIRST_READ);
        self.tcp.read_buf(&mut self.ahead).await
    }

    /// What was received so far and is still kept.
    pub(crate) fn received(&self) -> &[u8] {
        &self.ahead
    }

    /// From here on, what was read is forgotten.
    pub(crate) fn settle(&mut self) {
        self.keep = false;
        self.forget();
    }

    /// Sends everything that was received so far to `upstream`; gives the bare connection back,
    /// and how many bytes those were.
    pub(crate) async fn hand_over(self, upstream: &mut TcpStream) -> io::Result<(TcpStream, u64)> {
        upstream.write_all(&self.ahead).await?;
        Ok((self.tcp, self.ahead.len() as u64))
    }

    /// The bare connection, for closing it.
    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    fn forget(&mut self) {
        if !self.keep && self.at == self.ahead.len() {
            self.ahead = Vec::new();
            self.at = 0;
        }
    }

    /// Serves a read from what is there already.
    fn read_ahead(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(rest) = self.ahead.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(part);
        self.at += part.len();
        self.forget();
        true
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_ahead(buf) {
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut piece = ReadBuf::new(scratch);
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut piece))?;
            let (taken, rest) = piece
                .filled()
                .split_at(piece.filled().len().min(buf.remaining()));
            buf.put_slice(taken);
            if this.keep {
                this.ahead.extend_from_slice(taken);
                this.at = this.ahead.len();
            }
            this.ahead.extend_from_slice(rest);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn small_reads_of_large_pieces_lose_nothing() {
        let (mut near, far) = pair().await;
        let sent: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move { near.write_all(&sent).await });
        let mut far = Socket::new(far);
        let (mut seen, mut piece) = (Vec::new(), [0; 777]);
        loop {
            match far.read(&mut piece).await.expect("read") {
                0 => break,
                n => seen.extend_from_slice(&piece[..n]),
            }
        }
        writing.await.expect("joined").expect("written");
        assert!(
            seen == expected,
            "{} of {} bytes",
            seen.len(),
            expected.len()
        );
        assert_eq!(far.ahead.capacity(), 0, "an idle connection holds nothing");
    }

    #[tokio::test]
    async fn what_was_recorded_can_be_handed_over_whole() {
        let (mut near, far) = pair().await;
        near.write_all(b"hello, upstream").await.expect("written");
        let mut far = Socket::recording(far);
        far.receive().await.expect("received");
        let mut start = [0; 5];
        far.read_exact(&mut start).await.expect("read");
        let (mut upstream, mut seen_by) = pair().await;
        let (_, moved) = far.hand_over(&mut upstream).await.expect("handed over");
        drop(upstream);
        let mut seen = Vec::new();
        seen_by.read_to_end(&mut seen).await.expect("read");
        assert_eq!((seen.as_slice(), moved), (&b"hello, upstream"[..], 15));
    }
}
