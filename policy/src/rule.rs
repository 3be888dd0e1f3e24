//! What a policy allows beside its credentials' own hosts.

use crate::{Cidr, HostPattern, Methods, Paths};

/// One entry of the allow-list. Entries add up; none takes away what another grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub to: Destination,
    pub ports: Vec<u16>,
    pub mode: Mode,
}

/// Where a rule's connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Hosts(Vec<HostPattern>),
    /// Only with [`Mode::Tcp`]: all else is judged by name.
    Cidrs(Vec<Cidr>),
}

/// How a rule's connections are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// TLS is terminated and each request judged.
    Intercept(Requests),
    /// Plaintext HTTP, each request judged, and never a credential in it.
    Plaintext(Requests),
    /// TLS goes through untouched; its server name is judged.
    Passthrough,
    /// Any TCP, untouched.
    Tcp,
}

/// Which requests an intercepting rule admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requests {
    Any,
    /// Those that one of these admits. Never empty in a compiled policy.
    Listed(Vec<HttpRule>),
}

/// Methods and paths that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    pub methods: Methods,
    pub paths: Paths,
}
