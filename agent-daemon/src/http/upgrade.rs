//! WebSocket over HTTP/1.1: after a 101 that was asked for, both sides are joined byte for byte.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::Exchange;
use crate::relay;

/// Joins the two connections in a task of its own; the record is written when it ends.
pub(super) fn join(downstream: OnUpgrade, upstream: OnUpgrade, exchange: Arc<Exchange>) {
    let (closing, idle) = (exchange.closing(), exchange.idle());
    tokio::spawn(async move {
        let (mut down, mut up) = match tokio::try_join!(downstream, upstream) {
            Ok((down, up)) => (TokioIo::new(down), TokioIo::new(up)),
            Err(error) => return debug!(%error, "upgrade did not complete"),
        };
        let moved = relay::join(&mut down, &mut up, &closing, idle).await;
        exchange.moved(moved);
    });
}
