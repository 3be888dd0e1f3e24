//! The life of a connection: admit, detect, decide, then terminate, pass or relay.
//!
//! A connection that is refused before it speaks HTTP is ended at once, so that a client never
//! hangs: by a TLS alert where one is understood, else by a reset. Each refusal leaves a record.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ersatz_policy::{
    Authority, Host, InterceptPermit, PassthroughPermit, Reason, TcpPermit, TcpTarget, Tls,
};
use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{self, Instant},
};
use tracing::debug;

use crate::{
    access::Access,
    audit::Protocol,
    detect::{Detected, Hello, Offers, detect},
    dns,
    http::{Route, Serving, Session, serve},
    metrics::Outcome,
    node::Node,
    refused::Refused,
    relay,
    sandboxes::{Bound, Sandbox},
    socket::Socket,
    tls::{Minted, Version},
    upstream::{Pool, Transport},
    zone::SandboxView,
};

/// Time for a sandbox to finish its handshake at least, however long the upstream took to learn.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// TLS alert record: fatal, `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 112];
/// TLS alert record: fatal, `no_application_protocol` (RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 120];
const DNS: u16 = 53;
/// Who dials it speaks first, and HTTP: a refusal that it can read is better than a reset.
const HTTP: u16 = 80;

/// A connection as the kernel hands it over.
pub(crate) struct Accepted {
    pub(crate) tcp: TcpStream,
    /// Whose it is.
    pub(crate) sandbox: Arc<Sandbox>,
    /// Where the sandbox believes it is connected to.
    pub(crate) dialled: SocketAddr,
    /// The worker that the connection lives on.
    pub(crate) worker: usize,
}

/// Serves one connection to its end.
pub(crate) async fn serve_connection(node: Arc<Node>, accepted: Accepted) {
    let Accepted {
        tcp,
        sandbox,
        dialled,
        worker,
    } = accepted;
    let mut access = Access::begin(node.clone(), sandbox.clone(), dialled);
    let admitted = (sandbox.admit(), node.places.clone().try_acquire_owned());
    let (Some(_of_sandbox), Ok(_of_node)) = admitted else {
        reset(&tcp);
        return access.refused(Reason::Overloaded);
    };
    let closing = sandbox.closing().clone();
    // The stages before the first request are boxed, so that an idle connection does not carry
    // their state for the rest of its life.
    let mut opening = Box::pin(async {
        if dialled.port() == DNS {
            dns::serve_tcp(&SandboxView { node, sandbox }, tcp).await;
            return Ok(None);
        }
        let (bound, deadline) = (
            sandbox.bound_full(),
            Instant::now() + node.limits.handshake_timeout,
        );
        Stage {
            node,
            sandbox,
            bound,
            dialled,
            worker,
            deadline,
        }
        .open(tcp, &mut access)
        .await
    });
    // What is relayed ends by itself when the sandbox does, and leaves its record then: it is
    // looked at first, and once more when the sandbox has ended.
    let opened = tokio::select! {
        biased;
        opened = &mut opening => opened,
        () = closing.cancelled() => match opening.as_mut().now_or_never() {
            Some(opened) => opened,
            None => return,
        },
    };
    drop(opening);
    let ended = match opened {
        Ok(Some(serving)) => served(serving.await),
        Ok(None) => Ok(()),
        Err(refused) => Err(refused),
    };
    if let Err(refused) = ended {
        debug!(
            error = &refused as &dyn std::error::Error,
            "connection refused"
        );
        access.refused(refused.reason());
    }
}

/// What all stages of one connection need to know.
struct Stage {
    node: Arc<Node>,
    sandbox: Arc<Sandbox>,
    bound: Arc<Bound>,
    dialled: SocketAddr,
    worker: usize,
    deadline: Instant,
}

impl Stage {
    /// To the point where HTTP begins, or to the end of a connection that is only passed on.
    async fn open(self, tcp: TcpStream, access: &mut Access) -> Result<Option<Serving>, Refused> {
        let name = self.sandbox.names.name(self.dialled.ip());
        if let Some(permit) = self.bound.policy.opaque(name.as_ref(), self.dialled) {
            return self.opaque(tcp, &permit, access).await.map(|()| None);
        }
        let port = self.dialled.port();
        if port != HTTP
            && let Err(denied) = self.bound.policy.reaches(name.as_ref(), port)
        {
            access.host(denied.host.as_ref(), port);
            reset(&tcp);
            return Err(denied.into());
        }
        match time::timeout_at(self.deadline, detect(tcp)).await?? {
            Detected::Tls(hello) => self.tls(*hello, access).await,
            Detected::Http1(stream) => Ok(Some(self.plaintext(stream, access))),
            Detected::Http2(stream) | Detected::Opaque(stream) => {
                reset(&stream.into_tcp());
                Err(Refused::Protocol)
            }
        }
    }

    /// TLS goes by the name that the client asks for, and by the port that it dialled.
    async fn tls(self, hello: Hello, access: &mut Access) -> Result<Option<Serving>, Refused> {
        access.protocol(Protocol::Tls);
        let Some(name) = &hello.name else {
            return refuse_hello(hello, UNRECOGNIZED_NAME, Refused::NoServerName).await;
        };
        let authority = Authority::new(Host::Name(name.clone()), self.dialled.port());
        access.authority(&authority);
        match self.bound.policy.tls(name, self.dialled.port()) {
            Ok(Tls::Intercept(permit)) => self.intercept(hello, permit, access).await,
            Ok(Tls::Passthrough(permit)) => self
                .passthrough(hello, &permit, access)
                .await
                .map(|()| None),
            Err(denied) => refuse_hello(hello, UNRECOGNIZED_NAME, denied.into()).await,
        }
    }

    async fn intercept(
        self,
        mut hello: Hello,
        permit: InterceptPermit,
        access: &mut Access,
    ) -> Result<Option<Serving>, Refused> {
        let pool = self
            .sandbox
            .upstreams(self.worker)
            .pool(permit.authority(), Transport::Tls);
        let Some(version) = choose(hello.offers, &pool).await else {
            return refuse_hello(hello, NO_APPLICATION_PROTOCOL, Refused::NoCommonVersion).await;
        };
        let (config, minted) = self.sandbox.leaves.config(&permit, version)?;
        if minted == Minted::Now {
            self.node.metrics.mints.inc();
        }
        hello.start.io.settle();
        let handshake = hello.start.into_stream(config);
        let deadline = self.deadline.max(Instant::now() + HANDSHAKE);
        let shaken = time::timeout_at(deadline, handshake).await;
        self.node.metrics.handshake(match &shaken {
            Ok(Ok(_)) => Outcome::Ok,
            Ok(Err(_)) => Outcome::Failed,
            Err(_) => Outcome::Timeout,
        });
        let stream = shaken?.map_err(Refused::Handshake)?;
        access.intercepted();
        let session = Session {
            tls: tls_version(stream.get_ref().1),
            route: Route::Tls {
                permit,
                generation: self.bound.generation,
                pool,
            },
            node: self.node,
            sandbox: self.sandbox,
            worker: self.worker,
            version,
        };
        Ok(Some(serve(session, stream)))
    }

    fn plaintext(self, stream: Socket, access: &mut Access) -> Serving {
        access.intercepted();
        let session = Session {
            tls: None,
            route: Route::Plaintext {
                port: self.dialled.port(),
            },
            node: self.node,
            sandbox: self.sandbox,
            worker: self.worker,
            version: Version::H1,
        };
        serve(session, stream)
    }

    /// Not decrypted: the name is ours to resolve and vet, the bytes are theirs.
    async fn passthrough(
        self,
        hello: Hello,
        permit: &PassthroughPermit,
        access: &mut Access,
    ) -> Result<(), Refused> {
        let (dialing, idle) = (&self.sandbox.dialing, self.node.limits.idle_timeout);
        let (mut upstream, remote) = match dialing
            .dialer
            .tcp(dialing.sandbox, permit.authority())
            .await
        {
            Ok(connected) => connected,
            Err(error) => {
                reset(&hello.start.io.into_tcp());
                return Err(error.into());
            }
        };
        access.connected(remote);
        let (mut sandbox, sent) = hello.start.io.hand_over(&mut upstream).await?;
        let moved = relay::join(&mut sandbox, &mut upstream, self.sandbox.closing(), idle).await;
        access.passed(moved.after(sent));
        Ok(())
    }

    async fn opaque(
        self,
        mut tcp: TcpStream,
        permit: &TcpPermit,
        access: &mut Access,
    ) -> Result<(), Refused> {
        let authority = match permit.target() {
            TcpTarget::Name(authority) => authority.clone(),
            TcpTarget::Address(at) => Authority::new(Host::Address(at.ip()), at.port()),
        };
        access.protocol(Protocol::Tcp);
        access.authority(&authority);
        let (dialing, idle) = (&self.sandbox.dialing, self.node.limits.idle_timeout);
        let (mut upstream, remote) = match dialing.dialer.tcp(dialing.sandbox, &authority).await {
            Ok(connected) => connected,
            Err(error) => {
                reset(&tcp);
                return Err(error.into());
            }
        };
        access.connected(remote);
        let moved = relay::join(&mut tcp, &mut upstream, self.sandbox.closing(), idle).await;
        access.passed(moved);
        Ok(())
    }
}

/// The version for both sides: what the upstream speaks, if the client offers it. A client that
/// offers only HTTP/1.1 is not asked to wait: an upstream that cannot will say so. An upstream
/// that does not answer now is reported to the request, in a version that the client can read.
async fn choose(offers: Offers, pool: &Pool) -> Option<Version> {
    match (offers.h1, offers.h2) {
        (false, false) => None,
        (true, false) => Some(Version::H1),
        (h1, true) => match pool.learn().await {
            Ok(Version::H1) => h1.then_some(Version::H1),
            Err(_) if h1 => Some(Version::H1),
            Ok(Version::H2) | Err(_) => Some(Version::H2),
        },
    }
}

/// A connection that ends in the middle is the sandbox's business; one that is not HTTP is refused.
fn served(ended: Result<(), hyper::Error>) -> Result<(), Refused> {
    match ended {
        Err(error) if error.is_parse() => Err(Refused::Malformed(error)),
        Err(error) => {
            debug!(%error, "connection broke off");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn refuse_hello<T>(hello: Hello, alert: [u8; 7], refused: Refused) -> Result<T, Refused> {
    let mut tcp = hello.start.io.into_tcp();
    // The client may be gone; then there is nobody to tell.
    let _ = tcp.write_all(&alert).await;
    let _ = tcp.shutdown().await;
    Err(refused)
}

/// Closes with a reset, so that the client fails at once instead of waiting.
pub(crate) fn reset(tcp: &TcpStream) {
    if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "cannot reset a connection");
    }
}

fn tls_version(connection: &rustls::ServerConnection) -> Option<&'static str> {
    match connection.protocol_version()? {
        rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
        rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
