//! The upstream: an HTTPS server that answers only the real secret.
//!
//! HTTP/1.1 is served from a prepared buffer, HTTP/2 by the `h2` crate, so that
//! the upstream takes as little as possible of the core it shares with the load.

mod dns;
mod h1;
mod h2;
mod route;

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use crate::tls;
use route::Gate;

/// Serves HTTPS on `addr` and DNS on port 53 of the same address, for ever.
pub(crate) async fn run(addr: SocketAddr, certificates: &Path, secret: &str) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(certificates, "upstream")?));
    let gate: Gate = Arc::from(format!("Bearer {secret}"));
    let listener = TcpListener::bind(addr).await?;
    let dns = UdpSocket::bind((addr.ip(), 53)).await?;
    tokio::spawn(dns::serve(dns, addr.ip()));
    loop {
        let (tcp, _) = listener.accept().await?;
        tokio::spawn(connection(tcp, acceptor.clone(), Arc::clone(&gate)));
    }
}

async fn connection(tcp: TcpStream, acceptor: TlsAcceptor, gate: Gate) -> Result<()> {
    tcp.set_nodelay(true)?;
    let io = acceptor.accept(tcp).await?;
    match io.get_ref().1.alpn_protocol() {
        Some(b"h2") => h2::serve(io, gate).await,
        _ => h1::serve(io, gate).await,
    }
}
