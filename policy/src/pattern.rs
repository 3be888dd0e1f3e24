//! Which hosts a rule or a credential names.
//!
//! A wildcard stands for whole labels only, and what follows it has two labels at least: `*` and `*.com` would
//! grant what nobody meant to grant.

use std::fmt;

use crate::{Name, NameError};

/// A host name, or all names below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `api.example.com`: this name alone.
    Exact(Name),
    /// `*.example.com`: names with exactly one label more; not `example.com` itself.
    OneLabel(Name),
    /// `**.example.com`: names with one label or more; not `example.com` itself.
    Below(Name),
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a wildcard for every host is not possible; name the hosts")]
    Everything,
    #[error("the wildcard covers the whole of the top-level domain {0:?}")]
    TopLevel(String),
    #[error(
        "a wildcard stands for whole labels at the front: \"*.example.com\" or \"**.example.com\""
    )]
    Wildcard,
    #[error("this is a URL; a host has no scheme and no path")]
    Url,
    #[error("this is an address; addresses go into `cidrs`")]
    Address,
    #[error("a host has no port here; ports go into `ports`")]
    Port,
    #[error("{0}")]
    Name(NameError),
}

impl HostPattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if matches!(text, "*" | "**") {
            return Err(PatternError::Everything);
        }
        if let Some(rest) = text.strip_prefix("**.") {
            suffix(rest).map(Self::Below)
        } else if let Some(rest) = text.strip_prefix("*.") {
            suffix(rest).map(Self::OneLabel)
        } else {
            name(text).map(Self::Exact)
        }
    }

    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::OneLabel(suffix) => name.parents().next() == Some(suffix.as_str()),
            Self::Below(suffix) => name.parents().any(|parent| parent == suffix.as_str()),
        }
    }
}

fn suffix(text: &str) -> Result<Name, PatternError> {
    let suffix = name(text)?;
    if suffix.labels() < 2 {
        Err(PatternError::TopLevel(suffix.to_string()))
    } else {
        Ok(suffix)
    }
}

fn name(text: &str) -> Result<Name, PatternError> {
    let unbracketed = text.trim_matches(['[', ']']);
    match Name::parse(text.as_bytes()) {
        Ok(name) => Ok(name),
        Err(_) if text.contains('*') => Err(PatternError::Wildcard),
        Err(_) if text.contains('/') => Err(PatternError::Url),
        Err(NameError::Numeric) => Err(PatternError::Address),
        Err(_) if unbracketed.parse::<std::net::IpAddr>().is_ok() => Err(PatternError::Address),
        Err(NameError::Byte(b':')) => Err(PatternError::Port),
        Err(error) => Err(PatternError::Name(error)),
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
            Self::Below(suffix) => write!(f, "**.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("example.com", "example.com", true)]
    #[case("Example.COM", "example.com", true)]
    #[case("example.com", "www.example.com", false)]
    #[case("example.com", "example.com.evil.org", false)]
    #[case("*.example.com", "a.example.com", true)]
    #[case("*.example.com", "example.com", false)]
    #[case("*.example.com", "a.b.example.com", false)]
    #[case("*.example.com", "evilexample.com", false)]
    #[case("*.example.com", "a.example.com.evil.org", false)]
    #[case("**.example.com", "a.example.com", true)]
    #[case("**.example.com", "a.b.c.example.com", true)]
    #[case("**.example.com", "example.com", false)]
    #[case("**.example.com", "evilexample.com", false)]
    #[case("**.example.com", "a.evilexample.com", false)]
    fn matches_whole_labels(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
        let name = Name::parse(name.as_bytes()).unwrap();
        assert_eq!(
            HostPattern::parse(pattern).unwrap().matches(&name),
            expected
        );
    }

    #[rstest]
    #[case("*", PatternError::Everything)]
    #[case("**", PatternError::Everything)]
    #[case("*.com", PatternError::TopLevel("com".into()))]
    #[case("**.com.", PatternError::TopLevel("com".into()))]
    #[case("*.*", PatternError::Wildcard)]
    #[case("*.*.com", PatternError::Wildcard)]
    #[case("a*.example.com", PatternError::Wildcard)]
    #[case("a.*.example.com", PatternError::Wildcard)]
    #[case("***.example.com", PatternError::Wildcard)]
    #[case("*example.com", PatternError::Wildcard)]
    #[case("https://example.com", PatternError::Url)]
    #[case("example.com/x", PatternError::Url)]
    #[case("example.com:443", PatternError::Port)]
    #[case("10.0.0.1", PatternError::Address)]
    #[case("::1", PatternError::Address)]
    #[case("[::1]", PatternError::Address)]
    #[case("*.10.0.0.1", PatternError::Address)]
    #[case("", PatternError::Name(NameError::Empty))]
    #[case("*.", PatternError::Name(NameError::Empty))]
    #[case("b\u{fc}cher.example", PatternError::Name(NameError::NotAscii))]
    fn refuses_what_grants_too_much_or_nothing(#[case] text: &str, #[case] error: PatternError) {
        assert_eq!(HostPattern::parse(text), Err(error));
    }

    proptest! {
        #[test]
        fn never_panics_and_shows_what_it_parsed(text in "\\PC{0,40}") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(&pattern.to_string()), Ok(pattern));
            }
        }

        #[test]
        fn below_is_one_label_applied_again(first in "[a-z]{1,5}", middle in "([a-z]{1,3}\\.){0,3}", suffix in "[a-z]{1,4}\\.[a-z]{1,4}") {
            let name = Name::parse(format!("{first}.{middle}{suffix}").as_bytes()).unwrap();
            let below = HostPattern::parse(&format!("**.{suffix}")).unwrap();
            let one = HostPattern::parse(&format!("*.{suffix}")).unwrap();
            prop_assert!(below.matches(&name));
            prop_assert_eq!(one.matches(&name), middle.is_empty());
        }
    }
}
