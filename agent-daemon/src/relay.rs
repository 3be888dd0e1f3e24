//! Bytes between two streams, uninspected: passthrough, `mode: tcp` and WebSocket.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

/// Buffer for each direction; a relay holds two.
const BUFFER: usize = 16 * 1024;

/// Bytes that were moved, seen from the sandbox.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl Moved {
    /// Adds what was sent up before the relay began.
    pub(crate) fn after(self, sent: u64) -> Self {
        Self {
            up: self.up + sent,
            ..self
        }
    }
}

/// Copies both ways until both ends are done, one breaks, or `closing` says so. A half-closed
/// direction is passed on as such; one on which nothing moves for `idle` ends the connection.
pub(crate) async fn join<A, B>(
    sandbox: &mut A,
    upstream: &mut B,
    closing: &CancellationToken,
    idle: Duration,
) -> Moved
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_sandbox, mut to_sandbox) = tokio::io::split(sandbox);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let mut moved = Moved::default();
    let active = Activity {
        begin: Instant::now(),
        last: AtomicU64::new(0),
    };
    let both = async {
        tokio::try_join!(
            copy(
                &mut from_sandbox,
                &mut to_upstream,
                &mut moved.up,
                &active,
                idle
            ),
            copy(
                &mut from_upstream,
                &mut to_sandbox,
                &mut moved.down,
                &active,
                idle
            ),
        )
    };
    tokio::select! {
        _ = both => {}
        () = closing.cancelled() => {}
    }
    moved
}

/// When something moved last, in either direction.
struct Activity {
    begin: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Activity {
    fn last(&self) -> Instant {
        self.begin + Duration::from_millis(self.last.load(Relaxed))
    }

    fn now(&self) {
        let since = self.begin.elapsed().as_millis();
        self.last
            .store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }
}

async fn copy<R, W>(
    from: &mut R,
    to: &mut W,
    moved: &mut u64,
    active: &Activity,
    idle: Duration,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let read = loop {
            match time::timeout_at(active.last() + idle, from.read_buf(&mut buffer)).await {
                Ok(read) => break read?,
                // The other direction may have moved meanwhile.
                Err(_) if active.last() + idle > Instant::now() => {}
                Err(late) => return Err(late.into()),
            }
        };
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
        *moved += read as u64;
        active.now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn moves_both_ways_and_passes_half_close_on() {
        let (mut sandbox, mut near) = tokio::io::duplex(64);
        let (mut far, mut upstream) = tokio::io::duplex(64);
        let closing = CancellationToken::new();
        let relay = tokio::spawn(async move { join(&mut near, &mut far, &closing, LONG).await });
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

    #[tokio::test(start_paused = true)]
    async fn ends_when_nothing_moves_either_way() {
        let (mut sandbox, mut near) = tokio::io::duplex(64);
        let (mut far, _upstream) = tokio::io::duplex(64);
        let closing = CancellationToken::new();
        let begin = Instant::now();
        let relay = async { join(&mut near, &mut far, &closing, LONG).await };
        let once = async {
            time::sleep(LONG / 2).await;
            sandbox.write_all(b"x").await.expect("written");
        };
        let (moved, ()) = tokio::join!(relay, once);
        assert_eq!(moved, Moved { up: 1, down: 0 });
        assert_eq!(begin.elapsed().as_secs(), 90);
    }

    #[tokio::test]
    async fn stops_when_told() {
        let (_sandbox, mut near) = tokio::io::duplex(64);
        let (mut far, _upstream) = tokio::io::duplex(64);
        let closing = CancellationToken::new();
        closing.cancel();
        assert_eq!(
            join(&mut near, &mut far, &closing, LONG).await,
            Moved::default()
        );
    }
}
