//! One request and its answer, as the audit record will tell them.
//!
//! Shared by the two bodies; the record is written when the last of them is gone, so that it has
//! the true number of bytes even of a stream that was cut off.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ersatz_policy::{Authority, Fault, Reason};
use http::{Method, StatusCode, Uri};
use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use super::{Route, Session};
use crate::{audit, inject::Swaps, relay::Moved};

/// What is gathered about one request.
pub(crate) struct Exchange {
    session: Arc<Session>,
    started: Instant,
    method: Method,
    uri: Uri,
    /// What the request named, where the connection alone does not say it (plaintext).
    named: OnceLock<Authority>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    status: AtomicU16,
    answered: OnceLock<Instant>,
    reason: OnceLock<Reason>,
    swaps: OnceLock<Swaps>,
    remote: OnceLock<SocketAddr>,
    denied: AtomicBool,
}

impl Exchange {
    pub(super) fn begin(session: Arc<Session>, method: Method, uri: Uri) -> Arc<Self> {
        Arc::new(Self {
            session,
            started: Instant::now(),
            method,
            uri,
            named: OnceLock::new(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            status: AtomicU16::new(0),
            answered: OnceLock::new(),
            reason: OnceLock::new(),
            swaps: OnceLock::new(),
            remote: OnceLock::new(),
            denied: AtomicBool::new(false),
        })
    }

    pub(super) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn moved(&self, moved: Moved) {
        self.bytes_in.fetch_add(moved.up, Relaxed);
        self.bytes_out.fetch_add(moved.down, Relaxed);
    }

    pub(super) fn named(&self, authority: Authority) {
        let _ = self.named.set(authority);
    }

    pub(super) fn swapped(&self, swaps: Swaps) {
        let _ = self.swaps.set(swaps);
    }

    pub(super) fn answered(&self, status: StatusCode, remote: Option<SocketAddr>) {
        self.status.store(status.as_u16(), Relaxed);
        let _ = self.answered.set(Instant::now());
        if let Some(remote) = remote {
            let _ = self.remote.set(remote);
        }
    }

    pub(super) fn refused(&self, reason: Reason) {
        let _ = self.reason.set(reason);
        // An upstream that fails was allowed all the same.
        self.denied
            .store(reason.fault() != Fault::Upstream, Relaxed);
    }

    /// The upstream broke off in the middle of its answer.
    pub(super) fn broke(&self) {
        let _ = self.reason.set(Reason::UpstreamProtocol);
    }

    /// The host that the request is for, as far as it is known.
    pub(super) fn host(&self) -> String {
        self.authority()
            .map_or_else(String::new, |authority| authority.host().to_string())
    }

    pub(super) fn idle(&self) -> Duration {
        self.session.node.limits.idle_timeout
    }

    pub(super) fn closing(&self) -> CancellationToken {
        self.session.sandbox.closing().clone()
    }

    fn authority(&self) -> Option<&Authority> {
        match &self.session.route {
            Route::Tls { permit, .. } => Some(permit.authority()),
            Route::Plaintext { .. } => self.named.get(),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Session {
            node,
            sandbox,
            version,
            tls,
            ..
        } = &*self.session;
        let reason = self.reason.get().copied();
        let status = Some(self.status.load(Relaxed)).filter(|status| *status != 0);
        let swaps = self.swaps.get().map_or(&[][..], |swaps| swaps);
        let credentials: SmallVec<[audit::Swap<'_>; 1]> = swaps
            .iter()
            .map(|swap| audit::Swap {
                name: swap.credential.as_str(),
                placement: &swap.placement,
            })
            .collect();
        let authority = self
            .authority()
            .map_or_else(String::new, ToString::to_string);
        if let Some(reason) = reason {
            sandbox.refusals.note(reason, &authority);
        }
        let record = audit::Record {
            id: audit::RecordId::next(),
            sandbox: &sandbox.tag,
            protocol: version.protocol(),
            method: self.method.as_str(),
            authority: &authority,
            path: self.uri.path(),
            status,
            verdict: if self.denied.load(Relaxed) {
                audit::Verdict::Deny
            } else {
                audit::Verdict::Allow
            },
            reason,
            credentials: &credentials,
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            started: self.started,
            upstream_time: self
                .answered
                .get()
                .map(|at| at.duration_since(self.started)),
            upstream: self.remote.get().copied(),
            tls: *tls,
        };
        node.metrics.request(&record);
        node.audit.record(&record);
    }
}
