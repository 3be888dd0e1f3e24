//! `NodeConfig`: a node's own settings. Every one has a default.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ersatz_policy::Cidr;
use serde::{Deserialize, Serialize};

use crate::document::{Spec, spec_path};
use crate::error::{Advice, Problems};
use crate::place::FieldPath;
use crate::span::Span;

/// The `spec` of a `NodeConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfigSpec {
    pub upstream: UpstreamSpec,
    pub audit: AuditSpec,
    pub limits: LimitsSpec,
}

/// How servers are reached and verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct UpstreamSpec {
    pub roots: RootsSpec,
    /// Addresses of DNS servers, with port 53 unless given. Empty: the node's own.
    pub resolvers: Vec<String>,
    /// Blocks of private addresses that may be dialled, and of loopback when the whole block lies in it.
    /// Link-local addresses, metadata services and the node's own addresses never are.
    pub allow_private: Vec<String>,
}

/// The certificates that servers are verified against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RootsSpec {
    /// Whether the public roots are trusted.
    pub public: bool,
    /// PEM files with further roots.
    pub files: Vec<PathBuf>,
}

/// Where audit records go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// Bounds. Those that are not given have the defaults of [`Limits`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct LimitsSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_sandbox: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
}

/// A node's settings, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    pub public_roots: bool,
    pub root_files: Vec<PathBuf>,
    /// Empty: the node's own resolvers.
    pub resolvers: Vec<SocketAddr>,
    pub allow_private: Vec<Cidr>,
    pub audit_file: Option<PathBuf>,
    pub limits: Limits,
}

/// Bounds, each with its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections from all sandboxes at once. 20,000.
    pub connections: u32,
    /// Connections from one sandbox at once. 8,192.
    pub connections_per_sandbox: u32,
    /// How long dialling one server may take, all its addresses together. 10 s.
    pub connect_timeout: Duration,
    /// How long a client may take until its TLS handshake or first request head is complete. 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may be silent. 10 min: agents wait long for a model.
    pub idle_timeout: Duration,
}

impl Default for RootsSpec {
    fn default() -> Self {
        Self {
            public: true,
            files: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_sandbox: 8_192,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(10),
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            public_roots: true,
            root_files: Vec::new(),
            resolvers: Vec::new(),
            allow_private: Vec::new(),
            audit_file: None,
            limits: Limits::default(),
        }
    }
}

impl Spec for NodeConfigSpec {
    type Compiled = NodeConfig;

    fn compile(&self, _name: &str, base: &Path, problems: &mut Problems) -> Option<NodeConfig> {
        let at = spec_path().field("upstream");
        let RootsSpec { public, files } = &self.upstream.roots;
        if !public && files.is_empty() {
            let hint = Some("add `files`, or leave `public` out".to_owned());
            problems.add(
                at.field("roots"),
                "without any roots, no server could be verified",
                hint,
            );
        }
        let resolvers = self.upstream.resolvers.iter().enumerate();
        let resolvers = resolvers.filter_map(|(index, text)| {
            problems.take(&at.field("resolvers").item(index), resolver(text))
        });
        let resolvers = resolvers.collect();
        let blocks = self.upstream.allow_private.iter().enumerate();
        let blocks = blocks.filter_map(|(index, text)| {
            problems.take(&at.field("allowPrivate").item(index), Cidr::parse(text))
        });
        Some(NodeConfig {
            public_roots: *public,
            root_files: files.iter().map(|file| base.join(file)).collect(),
            resolvers,
            allow_private: blocks.collect(),
            audit_file: self.audit.file.as_ref().map(|file| base.join(file)),
            limits: self.limits.compile(&spec_path().field("limits"), problems),
        })
    }
}

impl LimitsSpec {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> Limits {
        let default = Limits::default();
        let mut count = |name: &str, given: Option<u32>, default: u32| {
            if given == Some(0) {
                problems.add(at.field(name), "with a limit of 0 nothing would work", None);
            }
            given.unwrap_or(default)
        };
        let connections = count("connections", self.connections, default.connections);
        let per_sandbox = count(
            "connectionsPerSandbox",
            self.connections_per_sandbox,
            default.connections_per_sandbox,
        );
        let mut span = |name: &str, given: Option<Span>, default: Duration| {
            let span = given.map_or(default, Duration::from);
            if span.is_zero() {
                problems.add(at.field(name), "with a limit of 0 nothing would work", None);
            }
            span
        };
        Limits {
            connections,
            connections_per_sandbox: per_sandbox,
            connect_timeout: span(
                "connectTimeout",
                self.connect_timeout,
                default.connect_timeout,
            ),
            handshake_timeout: span(
                "handshakeTimeout",
                self.handshake_timeout,
                default.handshake_timeout,
            ),
            idle_timeout: span("idleTimeout", self.idle_timeout, default.idle_timeout),
        }
    }
}

/// The text is no address of a DNS server.
#[derive(Debug, thiserror::Error)]
#[error("not an address such as 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53")]
struct ResolverError;

impl Advice for ResolverError {}

fn resolver(text: &str) -> Result<SocketAddr, ResolverError> {
    let alone = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 53));
    alone.or_else(|_| text.parse()).map_err(|_| ResolverError)
}
