//! What to write instead of what the trust core refused.

use ersatz_policy::{
    AuthorityError, CidrError, CredentialNameError, MethodError, NameError, PathPatternError,
    PatternError, PlacementError, ShapeError,
};

use crate::error::Advice;
use crate::span::SpanError;

impl Advice for PatternError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Everything | Self::Wildcard => {
                "name hosts, as in api.example.com or \"*.example.com\"".to_owned()
            }
            Self::TopLevel(domain) => format!("name the domains, as in \"*.example.{domain}\""),
            Self::Url => {
                "write the host alone, as in api.example.com; paths go into `http`".to_owned()
            }
            Self::Address => "write `cidrs: [10.20.0.0/16]` with `mode: tcp`".to_owned(),
            Self::Port => "write the host alone, and `ports: [8443]` beside it".to_owned(),
            Self::Name(error) => return error.advice(),
        })
    }
}

impl Advice for NameError {
    fn advice(&self) -> Option<String> {
        matches!(self, Self::NotAscii).then(|| {
            "convert the name with `idn2` or `python3 -c 'print(\"…\".encode(\"idna\"))'`"
                .to_owned()
        })
    }
}

impl Advice for CidrError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::HostBits(block) => Some(format!("write {block}")),
            Self::Everything => Some("name the networks that are needed".to_owned()),
            Self::Malformed => None,
        }
    }
}

impl Advice for ShapeError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Entropy(_) => {
                "make the random part longer, as in \"ghp_[A-Za-z0-9]{36}\"".to_owned()
            }
            Self::Count => "write a plain number, as in [A-Za-z0-9]{36}".to_owned(),
            _ => return None,
        })
    }
}

impl Advice for MethodError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::Empty => Some("leave `methods` out to admit any method".to_owned()),
            Self::Token(method)
                if !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
            {
                Some(format!("write {}", method.to_uppercase()))
            }
            Self::Token(_) | Self::Forbidden(_) => None,
        }
    }
}

impl Advice for PathPatternError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::NoSlash => Some("begin it with a slash, as in /repos/**".to_owned()),
            Self::DoubleStar => Some("write /** at the end, or * within a segment".to_owned()),
            _ => None,
        }
    }
}

impl Advice for PlacementError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::Basic => {
                Some("write {basic: user} or {basic: password} in place of the header".to_owned())
            }
            Self::NoScheme => {
                Some("leave `scheme` out for the default, or set `bare: true`".to_owned())
            }
            _ => None,
        }
    }
}

impl Advice for CredentialNameError {}
impl Advice for AuthorityError {}
impl Advice for SpanError {}
