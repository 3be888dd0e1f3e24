//! Where in a request a credential may stand.
//!
//! A placement is one exact place: a named header with one of a few schemes, or one part of Basic. There is no
//! placement in a path, a query or a body: what stands there is stored, logged and read back by others.

use std::fmt;

/// One exact place for a credential in a request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The whole value of a header, behind a scheme where the schemes say so.
    Header { name: HeaderName, schemes: Schemes },
    /// One part of `Authorization: Basic`, which is decoded and encoded again.
    Basic(BasicPart),
}

/// Which half of `user:password`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BasicPart {
    User,
    Password,
}

/// A header that may hold a credential: not one that frames or routes the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderName(http::HeaderName);

/// What stands before the credential in the header's value. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemes {
    bare: bool,
    named: Box<[Box<str>]>,
}

/// Why a placement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("{0:?} is not a header name")]
    HeaderName(String),
    #[error("the header {0:?} frames or routes the request and cannot hold a credential")]
    HeaderForbidden(String),
    #[error("the list of schemes is empty, which would admit nothing")]
    NoScheme,
    #[error("{0:?} is not an authentication scheme")]
    Scheme(String),
    #[error("Basic is a placement of its own: {{basic: password}}")]
    Basic,
}

impl HeaderName {
    pub fn parse(text: &str) -> Result<Self, PlacementError> {
        let name = text
            .parse::<http::HeaderName>()
            .map_err(|_| PlacementError::HeaderName(text.to_owned()))?;
        if FORBIDDEN.contains(&name.as_str()) {
            return Err(PlacementError::HeaderForbidden(name.as_str().to_owned()));
        }
        Ok(Self(name))
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn as_http(&self) -> &http::HeaderName {
        &self.0
    }

    fn takes_scheme(&self) -> bool {
        self.0 == http::header::AUTHORIZATION
    }
}

impl Schemes {
    /// Bearer and token for `authorization`, the bare value for every other header.
    pub fn default_for(header: &HeaderName) -> Self {
        if header.takes_scheme() {
            Self {
                bare: false,
                named: Box::new(["Bearer".into(), "token".into()]),
            }
        } else {
            Self {
                bare: true,
                named: Box::default(),
            }
        }
    }

    /// These schemes; the value without one as well, when `bare` is set.
    pub fn listed<T: AsRef<str>>(named: &[T], bare: bool) -> Result<Self, PlacementError> {
        if named.is_empty() && !bare {
            return Err(PlacementError::NoScheme);
        }
        for scheme in named.iter().map(AsRef::as_ref) {
            let token = !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !token {
                return Err(PlacementError::Scheme(scheme.to_owned()));
            }
            if scheme.eq_ignore_ascii_case("basic") {
                return Err(PlacementError::Basic);
            }
        }
        Ok(Self {
            bare,
            named: named.iter().map(|scheme| scheme.as_ref().into()).collect(),
        })
    }

    /// Whether the value may stand without a scheme.
    pub fn bare(&self) -> bool {
        self.bare
    }

    /// Whether this scheme may stand before the value. Schemes have no case (RFC 9110, section 11.1).
    pub fn admits(&self, scheme: &str) -> bool {
        self.named
            .iter()
            .any(|named| named.eq_ignore_ascii_case(scheme))
    }

    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(AsRef::as_ref)
    }
}

impl AsRef<http::HeaderName> for HeaderName {
    fn as_ref(&self) -> &http::HeaderName {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for BasicPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Password => "password",
        })
    }
}

/// As the audit record names it: `header:authorization`, `basic:password`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, .. } => write!(f, "header:{name}"),
            Self::Basic(part) => write!(f, "basic:{part}"),
        }
    }
}

/// Headers that say how a request is read, where it goes, or that end at this hop. `cookie` is left out because
/// it is a list, which HTTP/2 may split.
const FORBIDDEN: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Authorization", "authorization")]
    #[case("x-api-key", "x-api-key")]
    fn takes_header_names_of_any_case(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(HeaderName::parse(text).unwrap().as_str(), canonical);
    }

    #[rstest]
    #[case("Host")]
    #[case("content-length")]
    #[case("Transfer-Encoding")]
    #[case("proxy-authorization")]
    #[case("cookie")]
    #[case(":authority")]
    #[case("a b")]
    #[case("a\r\nb")]
    #[case("")]
    fn refuses_headers_that_cannot_hold_a_credential(#[case] text: &str) {
        assert!(HeaderName::parse(text).is_err());
    }

    #[test]
    fn authorization_takes_bearer_and_token_by_default() {
        let schemes = Schemes::default_for(&HeaderName::parse("authorization").unwrap());
        assert!(
            schemes.admits("bearer")
                && schemes.admits("Token")
                && !schemes.admits("Basic")
                && !schemes.bare()
        );
        let schemes = Schemes::default_for(&HeaderName::parse("x-api-key").unwrap());
        assert!(schemes.bare() && !schemes.admits("Bearer") && !schemes.admits(""));
    }

    #[test]
    fn schemes_and_the_bare_value_can_be_asked_for() {
        let bare = Schemes::listed::<&str>(&[], true).unwrap();
        assert!(bare.bare() && bare.named().count() == 0);
        let both = Schemes::listed(&["Bot"], true).unwrap();
        assert!(both.bare() && both.admits("bot") && !both.admits("Bearer"));
    }

    #[rstest]
    #[case(&[], false, PlacementError::NoScheme)]
    #[case(&["a b"], false, PlacementError::Scheme("a b".into()))]
    #[case(&[""], false, PlacementError::Scheme(String::new()))]
    #[case(&["basic"], false, PlacementError::Basic)]
    fn refuses_bad_schemes(
        #[case] named: &[&str],
        #[case] bare: bool,
        #[case] error: PlacementError,
    ) {
        assert_eq!(Schemes::listed(named, bare), Err(error));
    }
}
