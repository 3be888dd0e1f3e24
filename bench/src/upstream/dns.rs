//! A name server that gives one address to every name: enough for a proxy that
//! resolves names itself.

use std::net::IpAddr;

use tokio::net::UdpSocket;

const A: u16 = 1;

/// Answers queries for ever: A with `addr`, anything else with no record.
pub(crate) async fn serve(socket: UdpSocket, addr: IpAddr) {
    let mut buffer = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = buffer.get(..length).and_then(|query| answer(query, addr)) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

/// RFC 1035, section 4.1: the header, the question as it came, at most one A record.
fn answer(query: &[u8], addr: IpAddr) -> Option<Vec<u8>> {
    let id = query.get(..2)?;
    let labels = query.get(12..)?.iter().position(|&byte| byte == 0)?;
    let question = query.get(12..12 + labels + 5)?;
    let kind = u16::from_be_bytes(question.get(labels + 1..labels + 3)?.try_into().ok()?);
    let record = match addr {
        IpAddr::V4(v4) if kind == A => Some(v4.octets()),
        _ => None,
    };
    let mut bytes = id.to_vec();
    bytes.extend([0x85, 0x80, 0, 1, 0, u8::from(record.is_some()), 0, 0, 0, 0]);
    bytes.extend(question);
    if let Some(octets) = record {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(octets);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: u8) -> Vec<u8> {
        let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(b"\x01a\x04test\x00\x00");
        query.extend([kind, 0, 1]);
        query
    }

    #[test]
    fn gives_its_address_to_any_name() {
        let addr = IpAddr::from([10, 0, 0, 1]);
        assert!(answer(&query(1), addr).is_some_and(|bytes| bytes.ends_with(&[10, 0, 0, 1])));
        assert!(answer(&query(28), addr).is_some_and(|bytes| bytes.get(7) == Some(&0)));
        assert_eq!(answer(b"short", addr), None);
    }
}
