//! The questions that `explain` takes.

use std::net::SocketAddr;

use ersatz_policy::{Authority, AuthorityError, Host, Name, NameError};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Request {
        method: String,
        scheme: Scheme,
        authority: Authority,
        path: String,
    },
    Connect(Authority),
    Resolve(Name),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

/// Why a text is no question.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuestionError {
    #[error("write a method and a URL, as in 'GET https://api.github.com/user'")]
    Shape,
    #[error("the method is not a token")]
    Method,
    #[error("the URL begins with https:// or http://")]
    Scheme,
    #[error("write a host and a port, as in db.example.com:5432")]
    Port,
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Question {
    /// Parses `METHOD URL`. A query and a fragment are left out: they decide nothing.
    pub(super) fn request(text: &str) -> Result<Self, QuestionError> {
        let (method, url) = text.trim().split_once(' ').ok_or(QuestionError::Shape)?;
        if !method
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        {
            return Err(QuestionError::Method);
        }
        let (scheme, rest) = url
            .trim_start()
            .split_once("://")
            .ok_or(QuestionError::Scheme)?;
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (Scheme::Https, 443),
            "http" => (Scheme::Http, 80),
            _ => return Err(QuestionError::Scheme),
        };
        let target = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = target
            .split_at_checked(target.find('/').unwrap_or(target.len()))
            .ok_or(QuestionError::Shape)?;
        let authority = Authority::parse(authority.as_bytes(), port)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self::Request {
            method: method.to_owned(),
            scheme,
            authority,
            path: path.to_owned(),
        })
    }

    /// Parses `HOST:PORT`.
    pub(super) fn connect(text: &str) -> Result<Self, QuestionError> {
        let authority = Authority::parse(text.as_bytes(), 0)?;
        if authority.port() == 0 {
            Err(QuestionError::Port)
        } else {
            Ok(Self::Connect(authority))
        }
    }

    pub(super) fn resolve(text: &str) -> Result<Self, QuestionError> {
        Ok(Self::Resolve(Name::parse(text.as_bytes())?))
    }
}

/// The address that a connection to a literal goes to.
pub(super) fn socket_address(authority: &Authority) -> Option<SocketAddr> {
    match authority.host() {
        Host::Address(address) => Some(SocketAddr::new(*address, authority.port())),
        Host::Name(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "GET https://api.github.com/repos/x?y=z#f",
        "api.github.com",
        "/repos/x"
    )]
    #[case("GET  https://api.github.com", "api.github.com", "/")]
    #[case("POST HTTP://a.com?x", "a.com:80", "/")]
    #[case("GET https://a.com:8443//x", "a.com:8443", "//x")]
    #[case("GET https://[::1]/", "[::1]", "/")]
    fn takes_a_method_and_a_url(
        #[case] text: &str,
        #[case] expected: &str,
        #[case] expected_path: &str,
    ) {
        let Ok(Question::Request {
            authority, path, ..
        }) = Question::request(text)
        else {
            panic!("{text}")
        };
        assert_eq!(
            (authority.to_string().as_str(), path.as_str()),
            (expected, expected_path)
        );
    }

    #[rstest]
    #[case("https://a.com/")]
    #[case("GET a.com/")]
    #[case("GET ftp://a.com/")]
    #[case("GE(T https://a.com/")]
    #[case("GET https://user@a.com/")]
    #[case("GET https:///x")]
    fn refuses_other_requests(#[case] text: &str) {
        assert!(Question::request(text).is_err());
    }

    #[test]
    fn a_connection_needs_a_port() {
        assert_eq!(Question::connect("a.com"), Err(QuestionError::Port));
        assert!(Question::connect("a.com:5432").is_ok() && Question::connect("10.0.0.1:1").is_ok());
    }
}
