//! A credential: what the sandbox holds in its place, and where the real value may go.
//!
//! The secret itself is not here, nor is its source: the trust core decides about credentials by name.

use std::fmt;
use std::sync::Arc;

use crate::{HostPattern, Methods, Paths, Placement, Shape};

/// A credential's name, as resources are named: lower-case letters, digits, `-` and `.`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialName(Arc<str>);

/// Why a text does not name a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has lower-case letters, digits, - and . only, begins and ends with a letter or digit, and has at most 253 bytes"
)]
pub struct CredentialNameError;

/// A credential as the policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub name: CredentialName,
    /// The environment variable by which the sandbox gets the stub.
    pub stub_env: Option<String>,
    pub shape: Shape,
    /// The only places where the real value may go. Never empty in a compiled policy.
    pub uses: Vec<Use>,
}

/// Hosts, ports, methods, paths and placements that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub hosts: Vec<HostPattern>,
    pub ports: Vec<u16>,
    pub methods: Methods,
    pub paths: Paths,
    pub placements: Vec<Placement>,
}

impl CredentialName {
    pub fn parse(text: &str) -> Result<Self, CredentialNameError> {
        let inner = text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)
        });
        let ends = text.bytes().next().zip(text.bytes().last());
        let bounded = ends.is_some_and(|(first, last)| {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric()
        });
        if inner && bounded && text.len() <= 253 {
            Ok(Self(text.into()))
        } else {
            Err(CredentialNameError)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn names_are_bounded() {
        assert!(CredentialName::parse(&"a".repeat(253)).is_ok());
        assert!(CredentialName::parse(&"a".repeat(254)).is_err());
    }

    #[rstest]
    #[case("github", true)]
    #[case("a", true)]
    #[case("git-hub.2", true)]
    #[case("", false)]
    #[case("GitHub", false)]
    #[case("-a", false)]
    #[case("a.", false)]
    #[case("a_b", false)]
    #[case("a b", false)]
    fn names_are_those_of_resources(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(CredentialName::parse(text).is_ok(), valid);
    }
}
