//! Dialling: from an [`Authority`] to a connected, vetted, and for TLS verified, stream.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ersatz_policy::{Authority, Host};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::UpstreamError;
use crate::{
    metrics::{Metrics, Outcome},
    resolve::{Resolver, SandboxKey},
    socket::Socket,
    tls::{UpstreamTls, Version},
    vet::{Forbidden, Vet},
};

/// Head start of an address over the next one (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried at most.
const MAX_ADDRESSES: usize = 8;
/// Unanswered keep-alive probes end a connection whose peer is gone without a word.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_mins(1))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Dials on behalf of sandboxes, from the node's own network namespace.
pub(crate) struct Dialer {
    resolver: Resolver,
    vet: Vet,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Dialer {
    /// `timeout` is for one connection, with all its addresses and its handshake.
    pub(crate) fn new(
        resolver: Resolver,
        vet: Vet,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            resolver,
            vet,
            timeout,
            metrics,
        }
    }

    /// Forgets what was resolved for a sandbox that has ended.
    pub(crate) fn forget(&self, sandbox: SandboxKey) {
        self.resolver.forget(sandbox);
    }

    /// Connects to `target` over TCP. For a name every address is vetted, and at least one must
    /// pass; for an address that policy allows literally, it alone.
    pub(crate) async fn tcp(
        &self,
        sandbox: SandboxKey,
        target: &Authority,
    ) -> Result<(TcpStream, SocketAddr), UpstreamError> {
        self.counted(self.dial(sandbox, target)).await
    }

    /// Connects to `target` over TLS and verifies its certificate for that name. With `version`
    /// the upstream must agree to exactly that one by ALPN; without, it chooses.
    pub(crate) async fn tls(
        &self,
        sandbox: SandboxKey,
        target: &Authority,
        tls: &UpstreamTls,
        version: Option<Version>,
    ) -> Result<(TlsStream<Socket>, SocketAddr, Version), UpstreamError> {
        let server = server_name(target.host())?;
        let dialling = async {
            let (stream, address) = self.dial(sandbox, target).await?;
            let connector = TlsConnector::from(tls.config(version));
            let stream = connector
                .connect(server, Socket::new(stream))
                .await
                .map_err(UpstreamError::of_handshake)?;
            let agreed = Version::of_alpn(stream.get_ref().1.alpn_protocol());
            if version.is_some_and(|wanted| wanted != agreed) {
                return Err(UpstreamError::Alpn);
            }
            Ok((stream, address, agreed))
        };
        self.counted(dialling).await
    }

    async fn dial(
        &self,
        sandbox: SandboxKey,
        target: &Authority,
    ) -> Result<(TcpStream, SocketAddr), UpstreamError> {
        let addresses = self.addresses(sandbox, target).await?;
        let (stream, address) = race(&addresses).await?;
        set_options(&stream).map_err(UpstreamError::Unreachable)?;
        Ok((stream, address))
    }

    /// Bounds a connection's making, and counts how it ended.
    async fn counted<T>(
        &self,
        making: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let made = time::timeout(self.timeout, making)
            .await
            .unwrap_or(Err(UpstreamError::Timeout));
        self.metrics.upstream_connection(match &made {
            Ok(_) => Outcome::Ok,
            Err(UpstreamError::Timeout) => Outcome::Timeout,
            Err(_) => Outcome::Failed,
        });
        made
    }

    async fn addresses(
        &self,
        sandbox: SandboxKey,
        target: &Authority,
    ) -> Result<Vec<SocketAddr>, UpstreamError> {
        let found = match target.host() {
            Host::Name(name) => self.resolver.lookup(sandbox, name).await?,
            Host::Address(address) => Arc::from([*address]),
        };
        Ok(vetted(&self.vet, &found, target.port())?)
    }
}

/// The addresses that may be dialled, of the first few; an error when none may.
fn vetted(vet: &Vet, found: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, Forbidden> {
    let mut forbidden = None;
    let mut allowed = Vec::with_capacity(found.len().min(MAX_ADDRESSES));
    for address in found.iter().take(MAX_ADDRESSES) {
        match vet.check(*address) {
            Ok(()) => allowed.push(SocketAddr::new(*address, port)),
            Err(reason) => forbidden = Some(reason),
        }
    }
    match forbidden {
        Some(reason) if allowed.is_empty() => Err(reason),
        _ => Ok(allowed),
    }
}

/// Tries the addresses one after the other, each with a head start; the first to answer wins.
async fn race(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), UpstreamError> {
    let mut attempts: FuturesUnordered<_> = (0u32..)
        .zip(addresses)
        .map(|(position, address)| async move {
            time::sleep(ATTEMPT_DELAY * position).await;
            Ok::<_, io::Error>((TcpStream::connect(address).await?, *address))
        })
        .collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(connected) => return Ok(connected),
            Err(error) => last = error,
        }
    }
    Err(UpstreamError::Unreachable(last))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

fn server_name(host: &Host) -> Result<ServerName<'static>, UpstreamError> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).map_err(|error| {
            UpstreamError::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error))
        }),
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(count: u8) -> Vec<IpAddr> {
        (1..=count)
            .map(|last| IpAddr::from([8, 8, 4, last]))
            .collect()
    }

    #[test]
    fn dials_only_the_first_addresses_of_a_name() {
        let dialled = vetted(&Vet::new([]), &public(20), 443).expect("allowed");
        assert_eq!(dialled.len(), MAX_ADDRESSES);
    }

    #[test]
    fn leaves_out_what_is_forbidden_and_refuses_when_nothing_is_left() {
        let metadata = IpAddr::from([169, 254, 169, 254]);
        let mixed = [vec![metadata], public(1)].concat();
        let dialled = vetted(&Vet::new([]), &mixed, 443).expect("one is allowed");
        assert_eq!(dialled, [SocketAddr::from(([8, 8, 4, 1], 443))]);
        assert!(vetted(&Vet::new([]), &[metadata], 443).is_err());
    }
}
