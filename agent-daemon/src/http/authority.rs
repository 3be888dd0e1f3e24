//! The one authority of a request, and the refusal when a client names two.
//!
//! SNI, `Host`, `:authority` and the absolute form are parsed by one parser into one type and
//! must all be equal (RFC 9110 §7.2 and §7.4, RFC 9113 §8.3.1). On TLS the SNI and the port that
//! was dialled are what the others are compared with.

use ersatz_policy::{Authority, Reason};
use http::{Method, header::HOST, request::Parts, uri::Scheme};
use thiserror::Error;

/// Why a request has no single authority. The fault is the sandbox's.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum AuthorityError {
    #[error("the request names another authority than its connection")]
    Mismatch,
    #[error("no Host field, more than one, or one that is no authority")]
    Malformed,
    #[error("tunnels and traces are not forwarded")]
    Method,
}

impl AuthorityError {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Mismatch => Reason::AuthorityMismatch,
            Self::Malformed => Reason::RequestMalformed,
            Self::Method => Reason::MethodNotAllowed,
        }
    }
}

/// What the request itself says: all its sources agree, or it is refused.
pub(crate) fn of_request(head: &Parts, scheme: &Scheme) -> Result<Authority, AuthorityError> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) || head.method.as_str() == "TRACK" {
        return Err(AuthorityError::Method);
    }
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let parse =
        |text: &[u8]| Authority::parse(text, default_port).map_err(|_| AuthorityError::Malformed);

    let in_uri = match head.uri.authority() {
        Some(authority) => {
            if head.uri.scheme() != Some(scheme) {
                return Err(AuthorityError::Mismatch);
            }
            Some(parse(authority.as_str().as_bytes())?)
        }
        None => None,
    };
    let mut hosts = head.headers.get_all(HOST).iter();
    let in_host = hosts
        .next()
        .map(|host| parse(host.as_bytes()))
        .transpose()?;
    if hosts.next().is_some() {
        return Err(AuthorityError::Malformed);
    }
    match (in_uri, in_host) {
        (Some(uri), Some(host)) if uri != host => Err(AuthorityError::Mismatch),
        // RFC 9112 §3.2: HTTP/1.1 wants a Host field even beside the absolute form.
        (Some(_), None) if head.version < http::Version::HTTP_2 => Err(AuthorityError::Malformed),
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
        (None, None) => Err(AuthorityError::Malformed),
    }
}

/// As [`of_request`], and equal to what the connection was opened for.
pub(crate) fn of_connection(head: &Parts, connection: &Authority) -> Result<(), AuthorityError> {
    let authority = of_request(head, &Scheme::HTTPS)?;
    if authority == *connection {
        Ok(())
    } else {
        Err(AuthorityError::Mismatch)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check(uri: &str, hosts: &[&str]) -> Result<(), AuthorityError> {
        let connection = Authority::parse(b"api.example.com", 443).expect("an authority");
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        of_connection(
            &request.body(()).expect("a request").into_parts().0,
            &connection,
        )
    }

    #[test]
    fn accepts_every_spelling_of_the_same_authority() {
        for (uri, hosts) in [
            ("/x", &["api.example.com"][..]),
            ("/x", &["API.Example.COM"]),
            ("/x", &["api.example.com:443"]),
            ("/x", &["api.example.com."]),
            ("https://api.example.com/x", &["api.example.com"]),
            ("https://api.example.com:443/x", &["api.example.com"]),
        ] {
            assert_eq!(check(uri, hosts), Ok(()), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn refuses_what_names_two_or_none() {
        use AuthorityError::{Malformed, Mismatch};
        for (uri, hosts, error) in [
            ("/x", &["evil.example.com"][..], Mismatch),
            ("/x", &["api.example.com:8443"], Mismatch),
            ("/x", &["api.example.com:80"], Mismatch),
            ("/x", &["1.2.3.4"], Mismatch),
            ("/x", &[], Malformed),
            ("/x", &[""], Malformed),
            ("/x", &["api.example.com", "api.example.com"], Malformed),
            ("/x", &["user@api.example.com"], Malformed),
            ("/x", &["api.example.com evil.com"], Malformed),
            ("https://evil.example.com/x", &["api.example.com"], Mismatch),
            ("https://api.example.com/x", &["evil.example.com"], Mismatch),
            ("http://api.example.com/x", &["api.example.com"], Mismatch),
            ("https://api.example.com/x", &[], Malformed),
        ] {
            assert_eq!(check(uri, hosts), Err(error), "{uri} {hosts:?}");
        }
    }
}
