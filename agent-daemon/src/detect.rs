//! What a sandbox speaks on a new connection, told from its first bytes.
//!
//! Nothing is consumed: what was read is replayed to whoever goes on with the connection, be it
//! the TLS server, the HTTP server or, for passthrough, the upstream itself. A `ClientHello` may
//! come in any fragmentation up to rustls' bound of 64 KiB; a slow one ends at the deadline that
//! the caller sets.

use std::io;

use ersatz_policy::{Name, Reason};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, rustls::server::Acceptor};

use crate::{
    socket::Socket,
    tls::{ALPN_H1, ALPN_H2},
};

/// The longest method token that is looked for before bytes are called opaque.
const LONGEST_METHOD: usize = 16;
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS_HANDSHAKE: u8 = 0x16;

/// What the first bytes are.
pub(crate) enum Detected {
    Tls(Box<Hello>),
    Http1(Socket),
    Http2(Socket),
    Opaque(Socket),
}

/// A TLS client that waits for our answer.
pub(crate) struct Hello {
    pub(crate) start: StartHandshake<Socket>,
    /// The name it asks for; `None` when it names none.
    pub(crate) name: Option<Name>,
    pub(crate) offers: Offers,
}

/// The HTTP versions that a client offers by ALPN. One without ALPN speaks HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offers {
    pub(crate) h1: bool,
    pub(crate) h2: bool,
}

/// Why a connection could not be told. The fault is the sandbox's.
#[derive(Debug, Error)]
pub(crate) enum DetectError {
    #[error("the connection ended before it said anything")]
    Closed,
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the server name is not a host name")]
    BadName,
}

impl DetectError {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Closed => Reason::Timeout,
            Self::Io(_) => Reason::TlsHandshake,
            Self::BadName => Reason::ServerNameInvalid,
        }
    }
}

/// Reads as much as it takes to tell what `tcp` carries.
///
/// Not cancel-safe: dropping the future drops the connection.
pub(crate) async fn detect(tcp: TcpStream) -> Result<Detected, DetectError> {
    let mut socket = Socket::recording(tcp);
    loop {
        if socket.receive().await? == 0 {
            return Err(DetectError::Closed);
        }
        match first_bytes(socket.received()) {
            Some(First::Tls) => return Ok(Detected::Tls(Box::new(hello(socket).await?))),
            Some(First::Http1) => return Ok(Detected::Http1(settled(socket))),
            Some(First::Http2) => return Ok(Detected::Http2(socket)),
            Some(First::Opaque) => return Ok(Detected::Opaque(socket)),
            None => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum First {
    Tls,
    Http1,
    Http2,
    Opaque,
}

/// Tells the protocol, or `None` while the bytes could still become one of several.
fn first_bytes(seen: &[u8]) -> Option<First> {
    if *seen.first()? == TLS_HANDSHAKE {
        return Some(First::Tls);
    }
    if seen.starts_with(H2_PREFACE) {
        return Some(First::Http2);
    }
    if H2_PREFACE.starts_with(seen) {
        return None;
    }
    let token = seen
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || **b == b'-')
        .count();
    match seen.get(token) {
        Some(b' ') if token > 0 => Some(First::Http1),
        None if token <= LONGEST_METHOD => None,
        _ => Some(First::Opaque),
    }
}

fn settled(mut socket: Socket) -> Socket {
    socket.settle();
    socket
}

async fn hello(socket: Socket) -> Result<Hello, DetectError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let hello = start.client_hello();
    let name = match hello.server_name() {
        Some(name) => Some(Name::parse(name.as_bytes()).map_err(|_| DetectError::BadName)?),
        None => None,
    };
    let offers = match hello.alpn() {
        Some(mut offered) => offered.by_ref().fold(
            Offers {
                h1: false,
                h2: false,
            },
            |seen, alpn| Offers {
                h1: seen.h1 || alpn == ALPN_H1,
                h2: seen.h2 || alpn == ALPN_H2,
            },
        ),
        None => Offers {
            h1: true,
            h2: false,
        },
    };
    Ok(Hello {
        start,
        name,
        offers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_protocols_and_waits_while_it_cannot() {
        let cases: &[(&[u8], Option<First>)] = &[
            (b"", None),
            (b"\x16\x03\x01", Some(First::Tls)),
            (b"G", None),
            (b"GET ", Some(First::Http1)),
            (b"M-SEARCH * HTTP/1.1", Some(First::Http1)),
            (b"P", None),
            (b"PRI * HTT", None),
            (H2_PREFACE, Some(First::Http2)),
            (b"PRI /x HTTP/1.1", Some(First::Http1)),
            (b" GET / HTTP/1.1", Some(First::Opaque)),
            (b"get / HTTP/1.1", Some(First::Opaque)),
            (b"SSH-2.0-OpenSSH", Some(First::Opaque)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAA", Some(First::Opaque)),
            (b"\x00\x01", Some(First::Opaque)),
        ];
        for (seen, expected) in cases {
            assert_eq!(
                first_bytes(seen),
                *expected,
                "{:?}",
                seen.escape_ascii().to_string()
            );
        }
    }
}
