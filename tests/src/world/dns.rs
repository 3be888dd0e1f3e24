//! The name server: authoritative for the names of the world, which is all there is.

use std::{net::Ipv6Addr, sync::Arc};

use anyhow::{Context, Result};
use hickory_proto::{
    op::{Message, MessageType, Metadata, ResponseCode},
    rr::{RData, Record, RecordType, rdata},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::{World, names};

/// Seconds: short, so that nothing a test does depends on an earlier answer.
const TTL: u32 = 5;

pub(super) async fn bind() -> Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53))
        .await
        .context("cannot bind port 53")
}

pub(super) async fn serve_udp(socket: UdpSocket, world: Arc<World>) -> Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        let query = buffer.get(..length).unwrap_or_default();
        if let Ok(answer) = answer(query, &world) {
            socket.send_to(&answer, peer).await?;
        }
    }
}

pub(super) async fn serve_tcp(listener: TcpListener, world: Arc<World>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let world = Arc::clone(&world);
        tokio::spawn(async move { serve_stream(stream, &world).await });
    }
}

async fn serve_stream(mut stream: TcpStream, world: &World) -> Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let answer = answer(&query, world)?;
        stream.write_u16(u16::try_from(answer.len())?).await?;
        stream.write_all(&answer).await?;
    }
}

fn answer(query: &[u8], world: &World) -> Result<Vec<u8>> {
    let query = Message::from_vec(query)?;
    let question = query.queries.first().context("no question")?.clone();
    let name = question
        .name()
        .to_ascii()
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let kind = question.query_type();
    world
        .ledger
        .write("dns", json!({ "name": name, "type": kind.to_string() }));

    let mut metadata = Metadata::response_from_request(&query.metadata);
    metadata.message_type = MessageType::Response;
    metadata.authoritative = true;
    let mut answer = Message::new(metadata.id, metadata.message_type, metadata.op_code);
    let addresses = names::addresses(&name);
    if addresses.is_none() {
        metadata.response_code = ResponseCode::NXDomain;
    }
    answer.metadata = metadata;
    for address in addresses.into_iter().flatten() {
        let data = match (kind, address) {
            (RecordType::A, std::net::IpAddr::V4(v4)) => RData::A(rdata::A(v4)),
            (RecordType::AAAA, std::net::IpAddr::V6(v6)) => RData::AAAA(rdata::AAAA(v6)),
            _ => continue,
        };
        answer.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    }
    answer.add_query(question);
    Ok(answer.to_vec()?)
}
