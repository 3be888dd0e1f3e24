//! Bytes between two streams, uninspected: passthrough, `mode: tcp` and WebSocket.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Buffer for each direction; a relay holds two.
const BUFFER: usize = 16 * 1024;
/// A connection on which nothing moves in either direction for this long is closed.
const IDLE: Duration = Duration::from_secs(3600);

/// Bytes that were moved, seen from the sandbox.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Moved {
    /// Adds what was sent up before the relay began.
    pub(crate) fn after(self, sent: u64) -> Self {
        Self { up: self.up + sent, ..self }
    }
}

/// Copies both ways until both ends are done, one breaks, or `closing` says so. A half-closed
/// direction is passed on as such.
pub(crate) async fn join<A, B>(sandbox: &mut A, upstream: &mut B, closing: &CancellationToken) -> Moved
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_sandbox, mut to_sandbox) = tokio::io::split(sandbox);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let mut moved = Moved::default();
    let both = async {
        tokio::try_join!(
            copy(&mut from_sandbox, &mut to_upstream, &mut moved.up),
            copy(&mut from_upstream, &mut to_sandbox, &mut moved.down),
        )
    };
    tokio::select! {
        _ = both => {}
        () = closing.cancelled() => {}
    }
    moved
}

async fn copy<R, W>(from: &mut R, to: &mut W, moved: &mut u64) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let read = tokio::time::timeout(IDLE, from.read_buf(&mut buffer)).await??;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
        *moved += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moves_both_ways_and_passes_half_close_on() {
        let (mut sandbox, mut near) = tokio::io::duplex(64);
        let (mut far, mut upstream) = tokio::io::duplex(64);
        let closing = CancellationToken::new();
        let relay = tokio::spawn(async move { join(&mut near, &mut far, &closing).await });
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            upstream.read_to_end(&mut seen).await.expect("the request");
            upstream.write_all(b"answer").await.expect("written");
            seen
        });
        sandbox.write_all(&[7; 1000]).await.expect("written");
        sandbox.shutdown().await.expect("half closed");
        let mut answer = Vec::new();
        sandbox.read_to_end(&mut answer).await.expect("the answer");
        assert_eq!(answer, b"answer");
        assert_eq!(server.await.expect("joined"), [7; 1000]);
        assert_eq!(relay.await.expect("joined"), Moved { up: 1000, down: 6 });
    }

    #[tokio::test]
    async fn stops_when_told() {
        let (_sandbox, mut near) = tokio::io::duplex(64);
        let (mut far, _upstream) = tokio::io::duplex(64);
        let closing = CancellationToken::new();
        closing.cancel();
        assert_eq!(join(&mut near, &mut far, &closing).await, Moved::default());
    }
}
