//! A plain TCP relay: what steering every byte through a process costs, with
//! neither TLS nor HTTP.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Relays every connection to `listen` to `upstream`, for ever.
pub(crate) async fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (downstream, _) = listener.accept().await?;
        tokio::spawn(relay(downstream, upstream));
    }
}

async fn relay(mut downstream: TcpStream, upstream: SocketAddr) -> Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    downstream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut downstream, &mut upstream).await?;
    Ok(())
}
