//! A stream that keeps the last bytes that were read from it.
//!
//! The parser that serves the world loses what a test wants to see: the case of
//! header names, their order, the exact bytes of a request's head.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes kept: more than any head that a server of the world accepts.
const KEPT: usize = 256 * 1024;

/// What was read, shared with those who want to look.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    bytes: Vec<u8>,
    total: u64,
}

impl Tape {
    /// How many bytes were read in all.
    pub(super) fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Cuts out the head that starts with this request line, as it was sent,
    /// and forgets what was before it.
    pub(super) fn take_head(&self, request_line: &str) -> Option<Vec<u8>> {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = find(&recorded.bytes, request_line.as_bytes())?;
        recorded.bytes.drain(..start);
        let end = find(&recorded.bytes, b"\r\n\r\n")? + 4;
        Some(recorded.bytes.drain(..end).collect())
    }

    fn push(&self, bytes: &[u8]) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.total += bytes.len() as u64;
        recorded.bytes.extend_from_slice(bytes);
        if recorded.bytes.len() > 2 * KEPT {
            let surplus = recorded.bytes.len() - KEPT;
            recorded.bytes.drain(..surplus);
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// The recording stream.
pub(super) struct Recorder<S> {
    inner: S,
    tape: Tape,
}

impl<S> Recorder<S> {
    pub(super) fn new(inner: S) -> (Self, Tape) {
        let tape = Tape::default();
        (
            Self {
                inner,
                tape: tape.clone(),
            },
            tape,
        )
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorder<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.tape
            .push(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorder<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
