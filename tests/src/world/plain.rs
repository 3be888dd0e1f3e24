//! Listeners, and the servers that speak plain TCP.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::World;

/// Listens on every address, of both families.
pub(super) fn listen(port: u16) -> Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    socket
        .listen(4096)
        .with_context(|| format!("cannot listen on port {port}"))
}

/// Sends back what it gets.
pub(super) async fn echo(listener: TcpListener, world: Arc<World>) -> Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        note(&world, &stream, peer)?;
        tokio::spawn(copy(stream));
    }
}

/// Says which address was dialled, then sends back what it gets.
pub(super) async fn greet(listener: TcpListener, world: Arc<World>) -> Result<()> {
    loop {
        let (mut stream, peer) = listener.accept().await?;
        note(&world, &stream, peer)?;
        let greeting = format!("WELCOME {}\n", canonical(stream.local_addr()?));
        tokio::spawn(async move {
            stream.write_all(greeting.as_bytes()).await?;
            copy(stream).await
        });
    }
}

async fn copy(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

fn note(world: &World, stream: &TcpStream, peer: SocketAddr) -> Result<()> {
    let local = canonical(stream.local_addr()?);
    world.ledger.write(
        "tcp",
        json!({ "local": local.to_string(), "peer": canonical(peer).to_string() }),
    );
    Ok(())
}

/// An IPv4 address as such, though the listener is one for both families.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
