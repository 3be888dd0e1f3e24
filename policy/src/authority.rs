//! One authority: the host and port that a request is for.
//!
//! The server name of the TLS handshake, `Host`, `:authority` and an absolute target are each parsed into this
//! one type and must be equal; the same value then drives policy, binding, resolution, dialling and the
//! verification of the certificate. Hence the parser takes a narrow grammar, `host [":" port]` of RFC 3986
//! without userinfo, percent-encoding, zone ids, empty ports or leading zeros, and refuses all else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Name, NameError};

/// A host: a canonical name or an address literal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Name(Name),
    Address(IpAddr),
}

/// A host and a port. Two authorities are the same destination exactly when they are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    host: Host,
    port: u16,
}

/// Why bytes are not an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("the authority holds a user name")]
    UserInfo,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("the address is malformed")]
    Address,
    #[error("the host is not a name: {0}")]
    Name(NameError),
}

impl Authority {
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub fn parse(text: &[u8], default_port: u16) -> Result<Self, AuthorityError> {
        if text.contains(&b'@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, rest) = if let Some(bracketed) = text.strip_prefix(b"[") {
            let end = bracketed
                .iter()
                .position(|byte| *byte == b']')
                .ok_or(AuthorityError::Address)?;
            let (address, rest) = bracketed.split_at(end);
            (
                Host::Address(parse_v6(address)?.into()),
                rest.get(1..).unwrap_or_default(),
            )
        } else {
            let end = text
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(text.len());
            let (host, rest) = text.split_at(end);
            (parse_host(host)?, rest)
        };
        let port = match rest {
            [] => default_port,
            [b':', digits @ ..] => parse_port(digits)?,
            _ => return Err(AuthorityError::Address),
        };
        Ok(Self { host, port })
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, when it is a name.
    pub fn name(&self) -> Option<&Name> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }
}

fn parse_host(text: &[u8]) -> Result<Host, AuthorityError> {
    // Ipv4Addr takes dotted quads only, no octal, no short forms; what else ends in a number is not a name either.
    if let Some(address) = ascii(text).and_then(|text| text.parse::<Ipv4Addr>().ok()) {
        return Ok(Host::Address(address.into()));
    }
    Name::parse(text)
        .map(Host::Name)
        .map_err(AuthorityError::Name)
}

/// An IPv4-mapped literal is refused: it is a second way to write an IPv4 address.
fn parse_v6(text: &[u8]) -> Result<Ipv6Addr, AuthorityError> {
    let address = ascii(text)
        .and_then(|text| text.parse::<Ipv6Addr>().ok())
        .ok_or(AuthorityError::Address)?;
    if address.to_ipv4_mapped().is_some() {
        Err(AuthorityError::Address)
    } else {
        Ok(address)
    }
}

fn parse_port(digits: &[u8]) -> Result<u16, AuthorityError> {
    let canonical = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    let port = ascii(digits)
        .filter(|_| canonical)
        .and_then(|digits| digits.parse().ok());
    port.ok_or(AuthorityError::Port)
}

fn ascii(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.is_ascii())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// As in a URL of scheme `https`: the port is left out when it is 443.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            443 => self.host.fmt(f),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("api.github.com", "api.github.com", 443)]
    #[case("API.GitHub.com.", "api.github.com", 443)]
    #[case("api.github.com:443", "api.github.com", 443)]
    #[case("api.github.com:8443", "api.github.com:8443", 8443)]
    #[case("10.0.0.1", "10.0.0.1", 443)]
    #[case("10.0.0.1:1", "10.0.0.1:1", 1)]
    #[case("[::1]", "[::1]", 443)]
    #[case("[0:0::1]:65535", "[::1]:65535", 65535)]
    fn takes_hosts_with_and_without_port(
        #[case] text: &str,
        #[case] shown: &str,
        #[case] port: u16,
    ) {
        let authority = Authority::parse(text.as_bytes(), 443).unwrap();
        assert_eq!(
            (authority.to_string().as_str(), authority.port()),
            (shown, port)
        );
    }

    #[rstest]
    #[case("")]
    #[case(":443")]
    #[case("a.com:")]
    #[case("a.com:0")]
    #[case("a.com:0443")]
    #[case("a.com:65536")]
    #[case("a.com:443:443")]
    #[case("a.com:+443")]
    #[case("a.com: 443")]
    #[case("a.com:443 ")]
    #[case(" a.com")]
    #[case("a.com\t")]
    #[case("user@a.com")]
    #[case("user:pass@a.com")]
    #[case("allowed.com:x@evil.com")]
    #[case("@a.com")]
    #[case("evil.com#@allowed.com")]
    #[case("evil.com/allowed.com")]
    #[case("evil.com\\.allowed.com")]
    #[case("evil.com?allowed.com")]
    #[case("evil.com;allowed.com")]
    #[case("evil.com,allowed.com")]
    #[case("allowed%2ecom")]
    #[case("allowed.com%00.evil.com")]
    #[case("allowed.com\0.evil.com")]
    #[case("\u{ff41}llowed.com")]
    #[case("allowed\u{3002}com")]
    #[case("::1")]
    #[case("[::1")]
    #[case("[::1]x")]
    #[case("[::1]:")]
    #[case("[fe80::1%eth0]")]
    #[case("[fe80::1%25eth0]")]
    #[case("[::ffff:127.0.0.1]")]
    #[case("[127.0.0.1]")]
    #[case("[a.com]")]
    #[case("[]")]
    #[case("0177.0.0.1")]
    #[case("127.1")]
    #[case("0x7f.0.0.1")]
    #[case("2130706433")]
    #[case("1.2.3.4.5")]
    #[case("256.1.1.1")]
    #[case("https://a.com")]
    #[case("*.a.com")]
    fn refuses_all_else(#[case] text: &str) {
        assert!(Authority::parse(text.as_bytes(), 443).is_err(), "{text}");
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| Authority::parse(text.as_bytes(), 443).unwrap_err();
        assert_eq!(error("allowed.com:x@evil.com"), AuthorityError::UserInfo);
        assert_eq!(error("a.com:"), AuthorityError::Port);
        assert_eq!(error("[::1"), AuthorityError::Address);
        assert_eq!(error("127.1"), AuthorityError::Name(NameError::Numeric));
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(authority) = Authority::parse(&bytes, 443) {
                prop_assert_eq!(Authority::parse(authority.to_string().as_bytes(), 443), Ok(authority));
            }
        }

        #[test]
        fn every_socket_address_is_an_authority(address: std::net::SocketAddrV4, v6: u128, port in 1u16..) {
            let v4 = Authority::new(Host::Address((*address.ip()).into()), port);
            prop_assert_eq!(Authority::parse(v4.to_string().as_bytes(), 443), Ok(v4));
            let v6 = Ipv6Addr::from(v6 | 1 << 127);
            let v6 = Authority::new(Host::Address(v6.into()), port);
            prop_assert_eq!(Authority::parse(v6.to_string().as_bytes(), 443), Ok(v6));
        }
    }
}
