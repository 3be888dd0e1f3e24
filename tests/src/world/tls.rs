//! The TLS servers: one certificate for each name, chosen by SNI.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    World, http, names,
    recorder::{Recorder, Tape},
};

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(super) async fn serve(listener: TcpListener, world: Arc<World>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            // A client that breaks off is in the ledger; it is no fault of the world.
            let _ = connection(stream, world).await;
        });
    }
}

async fn connection(stream: TcpStream, world: Arc<World>) -> Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let peer = stream.peer_addr()?;
    let id = world.ledger.connection();
    let (stream, wire) = Recorder::new(stream);
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let hello = tokio::time::timeout(HANDSHAKE, acceptor).await??;
    let sni = hello.client_hello().server_name().map(str::to_owned);
    let name = sni
        .clone()
        .or_else(|| names::name_of(local.ip()))
        .context("no such server")?;
    let config = world.authority.server_config(&name)?;

    let handshake = tokio::time::timeout(HANDSHAKE, hello.into_stream(config)).await?;
    let session = handshake.as_ref().ok().map(|tls| tls.get_ref().1);
    let alpn = session.and_then(|session| session.alpn_protocol());
    let h2 = alpn == Some(b"h2");
    world.ledger.write(
        "handshake",
        json!({
            "connection": id, "sni": sni, "local": local.to_string(), "peer": peer.to_string(),
            "alpn": alpn.map(String::from_utf8_lossy),
            "version": session.and_then(|session| session.protocol_version()).map(|version| format!("{version:?}")),
            "result": handshake.as_ref().map_or_else(ToString::to_string, |_| "ok".into()),
        }),
    );
    let tls = handshake?;

    let (tls, tape) = Recorder::new(tls);
    let on = http::Connection {
        id,
        sni,
        local,
        tape: tape.clone(),
        world: Arc::clone(&world),
    };
    let served = if h2 {
        http::serve_h2(tls, on).await
    } else {
        http::serve_h1(tls, on).await
    };
    close(&world, id, &tape, &wire);
    served
}

fn close(world: &World, id: u64, tape: &Tape, wire: &Tape) {
    world.ledger.write(
        "closed",
        json!({ "connection": id, "application_bytes": tape.total(), "wire_bytes": wire.total() }),
    );
}
