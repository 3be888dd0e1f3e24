//! Bodies that the world sends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// Any of them.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there already.
pub(super) fn full(bytes: impl Into<Bytes>) -> Outgoing {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body whose frames a task sends one by one.
pub(super) fn channel() -> (mpsc::Sender<io::Result<Frame<Bytes>>>, Outgoing) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Channel(receiver).boxed_unsync())
}

struct Channel(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// A body of that many bytes, of known length, that is never held whole.
pub(super) struct Pattern {
    left: u64,
}

impl Pattern {
    pub(super) fn of(length: u64) -> Self {
        Self { left: length }
    }
}

/// What a long body repeats.
static BLOCK: [u8; 64 * 1024] = [b'e'; 64 * 1024];

impl Body for Pattern {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(BLOCK.len());
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(
            Bytes::from_static(&BLOCK).slice(..length),
        ))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.left)
    }
}
