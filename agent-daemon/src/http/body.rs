//! Bodies that stream: a frame is passed on when it comes, counted, and never held.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Exchange;
use crate::upstream::Lease;

/// The body of a request on its way to the upstream.
pub(crate) struct Outgoing {
    inner: Incoming,
    exchange: Arc<Exchange>,
}

impl Outgoing {
    pub(super) fn new(inner: Incoming, exchange: Arc<Exchange>) -> Self {
        Self { inner, exchange }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.exchange.count_in(data_len(frame));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer on its way to the sandbox.
pub(crate) enum Reply {
    /// An upstream's. The connection it comes from goes back to its pool when it is read whole.
    Upstream {
        inner: Incoming,
        exchange: Arc<Exchange>,
        lease: Option<Lease>,
        ended: bool,
    },
    /// One of our own, whole.
    Own {
        rest: Option<Bytes>,
        exchange: Arc<Exchange>,
    },
}

impl Reply {
    pub(super) fn upstream(inner: Incoming, exchange: Arc<Exchange>, lease: Lease) -> Self {
        Self::Upstream {
            inner,
            exchange,
            lease: Some(lease),
            ended: false,
        }
    }

    pub(super) fn own(body: Bytes, exchange: Arc<Exchange>) -> Self {
        Self::Own {
            rest: (!body.is_empty()).then_some(body),
            exchange,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Upstream {
                inner,
                exchange,
                ended,
                ..
            } => {
                let frame = ready!(Pin::new(inner).poll_frame(cx));
                match &frame {
                    Some(Ok(frame)) => exchange.count_out(data_len(frame)),
                    Some(Err(_)) => exchange.broke(),
                    None => *ended = true,
                }
                Poll::Ready(frame)
            }
            Self::Own { rest, exchange } => Poll::Ready(rest.take().map(|bytes| {
                exchange.count_out(bytes.len());
                Ok(Frame::data(bytes))
            })),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream { inner, .. } => inner.is_end_stream(),
            Self::Own { rest, .. } => rest.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream { inner, .. } => inner.size_hint(),
            Self::Own { rest, .. } => {
                SizeHint::with_exact(rest.as_ref().map_or(0, Bytes::len) as u64)
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Self::Upstream {
            inner,
            lease,
            ended,
            ..
        } = self
            && (*ended || inner.is_end_stream())
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

fn data_len(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}
