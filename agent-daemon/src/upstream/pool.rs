//! Upstream connections of one sandbox on one worker: reused in the sandbox, never beyond it.
//!
//! A [`Pool`] is for one authority. HTTP/1.1 connections are idle in a stack, the warmest on top;
//! HTTP/2 connections are shared by streams, and there are as many as the upstream's own limit on
//! concurrent streams makes necessary. What version an authority speaks is learned once and kept.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ersatz_policy::Authority;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};

use super::{Dialer, UpstreamError, handshake};
use crate::{
    http::Outgoing,
    resolve::SandboxKey,
    tls::{UpstreamTls, Version},
};

/// Idle HTTP/1.1 connections kept per authority.
const IDLE_PER_POOL: usize = 64;
/// An idle connection older than this is not used again: servers close at 60 s and more.
const IDLE_LIFE: Duration = Duration::from_secs(50);
/// Authorities remembered per sandbox and worker.
const MAX_POOLS: usize = 256;
/// Attempts on pooled connections that turn out to be closed before a new one is dialled.
const STALE_TRIES: usize = 3;

/// How an authority is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// What dialling takes, for one sandbox.
pub(crate) struct Dialing {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) sandbox: SandboxKey,
    pub(crate) tls: UpstreamTls,
}

/// The pools of one sandbox on one worker.
pub(crate) struct Upstreams {
    dialing: Arc<Dialing>,
    pools: Mutex<HashMap<(Authority, Transport), Arc<Pool>>>,
}

impl Upstreams {
    pub(crate) fn new(dialing: Arc<Dialing>) -> Self {
        Self {
            dialing,
            pools: Mutex::default(),
        }
    }

    /// The pool of one authority. Pools that nobody uses make room when there are too many.
    pub(crate) fn pool(&self, authority: &Authority, transport: Transport) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (authority.clone(), transport);
        if pools.len() >= MAX_POOLS && !pools.contains_key(&key) {
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        }
        let new = || {
            let (dialing, authority) = (self.dialing.clone(), authority.clone());
            Arc::new(Pool {
                dialing,
                authority,
                transport,
                state: Mutex::default(),
            })
        };
        pools.entry(key).or_insert_with(new).clone()
    }

    /// How many connections are held open for later requests.
    pub(crate) fn idle(&self) -> usize {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.values().map(|pool| pool.lock().idle.len()).sum()
    }

    /// Forgets all idle connections, as when the policy changed.
    pub(crate) fn clear(&self) {
        self.pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// The connections to one authority.
pub(crate) struct Pool {
    dialing: Arc<Dialing>,
    authority: Authority,
    transport: Transport,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    speaks: Option<Version>,
    idle: Vec<Idle>,
    shared: Vec<Shared>,
}

struct Idle {
    sender: http1::SendRequest<Outgoing>,
    remote: SocketAddr,
    since: Instant,
}

#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Outgoing>,
    /// Streams that the upstream takes at once.
    limit: handshake::Limit,
    remote: SocketAddr,
    /// One reference more than there are streams in use, or about to be.
    streams: Arc<()>,
}

impl Shared {
    fn has_room(&self) -> bool {
        !self.sender.is_closed() && Arc::strong_count(&self.streams) <= self.limit.streams()
    }
}

/// An answer, with the connection that it is read from.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) remote: SocketAddr,
    pub(crate) lease: Lease,
}

/// An upstream connection in use. [`Lease::give_back`] when the answer was read to its end; when
/// it is dropped instead, an HTTP/1.1 connection is closed.
pub(crate) enum Lease {
    H1 {
        pool: Arc<Pool>,
        sender: http1::SendRequest<Outgoing>,
        remote: SocketAddr,
    },
    H2 {
        _stream: Arc<()>,
    },
}

impl Lease {
    /// Puts the connection back for the next request.
    pub(crate) fn give_back(self) {
        let Self::H1 {
            pool,
            sender,
            remote,
        } = self
        else {
            return;
        };
        if sender.is_closed() {
            return;
        }
        let mut state = pool.lock();
        if state.idle.len() < IDLE_PER_POOL {
            state.idle.push(Idle {
                sender,
                remote,
                since: Instant::now(),
            });
        }
    }
}

impl Pool {
    /// The version that the authority speaks over TLS, learned by connecting to it when it is not
    /// known yet; that connection is kept for the first request.
    pub(crate) async fn learn(&self) -> Result<Version, UpstreamError> {
        if let Some(version) = self.lock().speaks {
            return Ok(version);
        }
        let Dialing {
            dialer,
            sandbox,
            tls,
        } = &*self.dialing;
        let (stream, remote, version) = dialer.tls(*sandbox, &self.authority, tls, None).await?;
        match version {
            Version::H1 => {
                let sender = handshake::h1(stream).await?;
                self.lock().idle.push(Idle {
                    sender,
                    remote,
                    since: Instant::now(),
                });
            }
            Version::H2 => {
                let (sender, limit) = handshake::h2(stream).await?;
                let streams = Arc::default();
                self.lock().shared.push(Shared {
                    sender,
                    limit,
                    remote,
                    streams,
                });
            }
        }
        self.lock().speaks = Some(version);
        Ok(version)
    }

    /// Sends `request` in `version`, over a pooled connection or a new one.
    ///
    /// A request that a stale connection did not take is sent on another; one that was taken, in
    /// part or whole, is never repeated.
    pub(crate) async fn send(
        self: &Arc<Self>,
        version: Version,
        request: Request<Outgoing>,
    ) -> Result<Answer, UpstreamError> {
        match version {
            Version::H1 => self.send_h1(request).await,
            Version::H2 => self.send_h2(request).await,
        }
    }

    async fn send_h1(
        self: &Arc<Self>,
        mut request: Request<Outgoing>,
    ) -> Result<Answer, UpstreamError> {
        let mut stale = 0;
        loop {
            let pooled = if stale < STALE_TRIES {
                self.idle()
            } else {
                None
            };
            let fresh = pooled.is_none();
            let (mut sender, remote) = match pooled {
                Some(idle) => (idle.sender, idle.remote),
                None => self.connect_h1().await?,
            };
            if !sender.is_ready() && sender.ready().await.is_err() && !fresh {
                stale += 1;
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease::H1 {
                        pool: self.clone(),
                        sender,
                        remote,
                    };
                    return Ok(Answer {
                        response,
                        remote,
                        lease,
                    });
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
            stale += 1;
        }
    }

    async fn send_h2(&self, mut request: Request<Outgoing>) -> Result<Answer, UpstreamError> {
        let mut stale = 0;
        loop {
            let pooled = if stale < STALE_TRIES {
                self.shared()
            } else {
                None
            };
            let fresh = pooled.is_none();
            let mut shared = match pooled {
                Some(shared) => shared,
                None => self.connect_h2().await?,
            };
            match shared.sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease::H2 {
                        _stream: shared.streams,
                    };
                    return Ok(Answer {
                        response,
                        remote: shared.remote,
                        lease,
                    });
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
            stale += 1;
        }
    }

    /// The idle connection that was used last, if one is still good.
    fn idle(&self) -> Option<Idle> {
        let mut state = self.lock();
        while let Some(idle) = state.idle.pop() {
            if idle.since.elapsed() > IDLE_LIFE {
                // What lies below is older still.
                state.idle.clear();
            } else if !idle.sender.is_closed() {
                return Some(idle);
            }
        }
        None
    }

    /// A shared connection that takes one more stream.
    fn shared(&self) -> Option<Shared> {
        let mut state = self.lock();
        if let Some(shared) = state.shared.iter().find(|shared| shared.has_room()) {
            return Some(shared.clone());
        }
        state.shared.retain(|shared| !shared.sender.is_closed());
        None
    }

    async fn connect_h1(
        &self,
    ) -> Result<(http1::SendRequest<Outgoing>, SocketAddr), UpstreamError> {
        let Dialing {
            dialer,
            sandbox,
            tls,
        } = &*self.dialing;
        match self.transport {
            Transport::Plain => {
                let (stream, remote) = dialer.tcp(*sandbox, &self.authority).await?;
                Ok((handshake::h1(stream).await?, remote))
            }
            Transport::Tls => {
                let version = Some(Version::H1);
                let (stream, remote, _) =
                    dialer.tls(*sandbox, &self.authority, tls, version).await?;
                Ok((handshake::h1(stream).await?, remote))
            }
        }
    }

    async fn connect_h2(&self) -> Result<Shared, UpstreamError> {
        let Dialing {
            dialer,
            sandbox,
            tls,
        } = &*self.dialing;
        let version = Some(Version::H2);
        let dialled = dialer.tls(*sandbox, &self.authority, tls, version).await;
        if let Err(UpstreamError::Alpn | UpstreamError::Handshake(_)) = &dialled {
            // It may speak otherwise than when it was learned; the next connection asks again.
            self.lock().speaks = None;
        }
        let (stream, remote, _) = dialled?;
        let (sender, limit) = handshake::h2(stream).await?;
        let shared = Shared {
            sender,
            limit,
            remote,
            streams: Arc::default(),
        };
        self.lock().shared.push(shared.clone());
        Ok(shared)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ersatz_policy::{Host, Name};

    use super::*;
    use crate::{metrics::Metrics, resolve::Resolver, tls::Trust, vet::Vet};

    fn upstreams() -> Upstreams {
        let timeout = Duration::from_secs(1);
        let resolver = Resolver::new(vec![SocketAddr::from(([127, 0, 0, 1], 1))]);
        let dialer = Dialer::new(resolver, Vet::new([]), timeout, Metrics::new());
        Upstreams::new(Arc::new(Dialing {
            dialer: Arc::new(dialer),
            sandbox: SandboxKey(1),
            tls: UpstreamTls::new(&Trust::load(true, &[]).expect("the public roots")),
        }))
    }

    fn authority(number: usize) -> Authority {
        let name = Name::parse(format!("host{number}.example.com").as_bytes()).expect("a name");
        Authority::new(Host::Name(name), 443)
    }

    #[test]
    fn pools_that_nobody_uses_give_way() {
        let upstreams = upstreams();
        let used = upstreams.pool(&authority(0), Transport::Tls);
        for number in 1..2 * MAX_POOLS {
            upstreams.pool(&authority(number), Transport::Tls);
        }
        assert!(upstreams.pools.lock().expect("not poisoned").len() <= MAX_POOLS);
        assert!(Arc::ptr_eq(
            &used,
            &upstreams.pool(&authority(0), Transport::Tls)
        ));
    }

    #[tokio::test]
    async fn keeps_so_many_idle_connections_and_none_for_too_long() {
        let pool = upstreams().pool(&authority(0), Transport::Tls);
        let remote = SocketAddr::from(([8, 8, 8, 8], 443));
        let mut peers = Vec::new();
        for _ in 0..=IDLE_PER_POOL {
            let (near, far) = tokio::io::duplex(64);
            peers.push(far);
            let sender = handshake::h1(near).await.expect("a connection");
            Lease::H1 {
                pool: pool.clone(),
                sender,
                remote,
            }
            .give_back();
        }
        assert_eq!(pool.lock().idle.len(), IDLE_PER_POOL);
        assert!(pool.idle().is_some());

        let long_ago = Instant::now().checked_sub(IDLE_LIFE + Duration::from_secs(1));
        for idle in &mut pool.lock().idle {
            idle.since = long_ago.expect("the clock goes back that far");
        }
        assert!(pool.idle().is_none());
        assert_eq!(pool.lock().idle.len(), 0);
    }
}
