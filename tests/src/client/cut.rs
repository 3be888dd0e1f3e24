//! A connection whose first bytes leave in two segments.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Between the two segments: enough that the peer reads the first by itself.
const PAUSE: Duration = Duration::from_millis(15);

/// The connection; it pauses once, after so many bytes.
pub(super) struct Cut {
    inner: TcpStream,
    before: Option<usize>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Cut {
    /// Cuts after `at` bytes; with `None` or nothing before the cut, not at all.
    pub(super) fn new(inner: TcpStream, at: Option<usize>) -> Self {
        Self {
            inner,
            before: at.filter(|at| *at > 0),
            pause: None,
        }
    }

    /// The address at the other end.
    pub(super) fn peer(&self) -> io::Result<IpAddr> {
        self.inner
            .peer_addr()
            .as_ref()
            .map(SocketAddr::ip)
            .map_err(|error| error.kind().into())
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let before = self.before.unwrap_or(buf.len()).min(buf.len());
        let part = buf.get(..before).unwrap_or(buf);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, part))?;
        if let Some(before) = self.before {
            self.before = before.checked_sub(written).filter(|left| *left > 0);
            if self.before.is_none() {
                self.pause = Some(Box::pin(sleep(PAUSE)));
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
