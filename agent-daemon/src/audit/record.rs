//! What a record holds, and how it is written.

use std::{
    net::SocketAddr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use ersatz_policy::Reason;

use super::{json, stamp};
use crate::sink::Share;

/// Longest method kept; the longest registered one has 17 bytes.
const METHOD_BYTES: usize = 32;
/// Longest authority kept: a name of 253 bytes, a colon and a port.
const AUTHORITY_BYTES: usize = 259;
/// Longest path kept.
const PATH_BYTES: usize = 1024;
/// Longest name, namespace or uid of a sandbox kept: Kubernetes' own bound.
const NAME_BYTES: usize = 253;

/// One request, refused connection, passed connection or refused name.
pub struct Record<'a> {
    pub id: RecordId,
    pub sandbox: &'a SandboxTag,
    pub protocol: Protocol,
    /// The method; for DNS the type that was asked for; else empty.
    pub method: &'a str,
    /// Host and port; for DNS the name; as far as it is known.
    pub authority: &'a str,
    /// The path; a query that follows it is not recorded.
    pub path: &'a str,
    /// The status that the sandbox got.
    pub status: Option<u16>,
    pub verdict: Verdict,
    pub reason: Option<Reason>,
    pub credentials: &'a [Swap<'a>],
    /// Bytes of the bodies (of everything, for a passed connection) that came from the sandbox.
    pub bytes_in: u64,
    /// The same that went to the sandbox.
    pub bytes_out: u64,
    /// When the request's head, or the connection, was taken up.
    pub started: Instant,
    /// From the take-up to the first byte of the upstream's answer.
    pub upstream_time: Option<Duration>,
    pub upstream: Option<SocketAddr>,
    /// The TLS version that the sandbox spoke; none for plaintext.
    pub tls: Option<&'static str>,
}

/// A credential that was put into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap<'a> {
    pub name: &'a str,
    pub placement: &'a str,
}

/// What the sandbox spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    H1,
    H2,
    Tls,
    Tcp,
    Dns,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
    Passthrough,
}

/// A number that is unique among the records of all daemons: a random part of
/// this daemon's life and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId(u64);

/// Who a sandbox is, for people: names that decide nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub namespace: Option<&'a str>,
    pub uid: Option<&'a str>,
    pub epoch: u32,
}

/// A sandbox as records name it, serialised once.
pub struct SandboxTag {
    name: Box<str>,
    fragment: Box<[u8]>,
    share: Share,
}

impl SandboxTag {
    pub fn new(subject: &Subject<'_>) -> SandboxTag {
        let mut fragment = br#","sandbox":{"name":"#.to_vec();
        json::string(&mut fragment, subject.name, NAME_BYTES);
        if let Some(namespace) = subject.namespace {
            json::text(&mut fragment, "namespace", namespace, NAME_BYTES);
        }
        if let Some(uid) = subject.uid {
            json::text(&mut fragment, "uid", uid, NAME_BYTES);
        }
        json::number(&mut fragment, "epoch", subject.epoch.into());
        fragment.push(b'}');
        SandboxTag {
            name: subject.name.into(),
            fragment: fragment.into(),
            share: Share::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn share(&self) -> &Share {
        &self.share
    }
}

impl Record<'_> {
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        let total = self.started.elapsed();
        line.extend_from_slice(br#"{"time":""#);
        let now = SystemTime::now();
        stamp::write(line, now.checked_sub(total).unwrap_or(now));
        line.extend_from_slice(br#"","id":""#);
        self.id.write(line);
        line.push(b'"');
        line.extend_from_slice(&self.sandbox.fragment);
        self.write_request(line);
        self.write_decision(line);
        self.write_transfer(line, total);
        line.extend_from_slice(b"}\n");
    }

    fn write_request(&self, line: &mut Vec<u8>) {
        json::text(line, "protocol", self.protocol.as_str(), usize::MAX);
        if !self.method.is_empty() {
            json::text(line, "method", self.method, METHOD_BYTES);
        }
        if !self.authority.is_empty() {
            json::text(line, "authority", self.authority, AUTHORITY_BYTES);
        }
        let path = without_query(self.path);
        if !path.is_empty() {
            json::text(line, "path", path, PATH_BYTES);
        }
    }

    fn write_decision(&self, line: &mut Vec<u8>) {
        if let Some(status) = self.status {
            json::number(line, "status", status.into());
        }
        json::text(line, "verdict", self.verdict.as_str(), usize::MAX);
        if let Some(reason) = self.reason {
            json::text(line, "reason", reason.as_str(), usize::MAX);
        }
        line.extend_from_slice(br#","credentials":["#);
        for (i, swap) in self.credentials.iter().enumerate() {
            line.extend_from_slice(if i == 0 {
                br#"{"name":"#
            } else {
                br#",{"name":"#
            });
            json::string(line, swap.name, NAME_BYTES);
            json::text(line, "placement", swap.placement, NAME_BYTES);
            line.push(b'}');
        }
        line.push(b']');
    }

    fn write_transfer(&self, line: &mut Vec<u8>, total: Duration) {
        json::number(line, "bytes_in", self.bytes_in);
        json::number(line, "bytes_out", self.bytes_out);
        line.extend_from_slice(br#","times":{"total_us":"#);
        json::digits(line, micros(total));
        if let Some(upstream) = self.upstream_time {
            json::number(line, "upstream_us", micros(upstream));
        }
        line.push(b'}');
        if let Some(upstream) = self.upstream {
            json::address(line, "upstream", upstream);
        }
        if let Some(tls) = self.tls {
            json::text(line, "tls", tls, usize::MAX);
        }
    }
}

impl RecordId {
    /// The next number of this process.
    pub fn next() -> RecordId {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        RecordId(COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn write(self, line: &mut Vec<u8>) {
        static LIFE: LazyLock<String> = LazyLock::new(|| {
            let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
            format!("{random:016x}-")
        });
        line.extend_from_slice(LIFE.as_bytes());
        json::digits(line, self.0);
    }
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(40);
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Protocol {
    pub const ALL: [Protocol; 5] = [
        Protocol::H1,
        Protocol::H2,
        Protocol::Tls,
        Protocol::Tcp,
        Protocol::Dns,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::H1 => "h1",
            Protocol::H2 => "h2",
            Protocol::Tls => "tls",
            Protocol::Tcp => "tcp",
            Protocol::Dns => "dns",
        }
    }
}

impl Verdict {
    pub const ALL: [Verdict; 3] = [Verdict::Allow, Verdict::Deny, Verdict::Passthrough];

    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Passthrough => "passthrough",
        }
    }
}

/// A query may hold a secret of the sandbox's own: it is cut off even when a
/// caller hands it in.
fn without_query(path: &str) -> &str {
    match memchr::memchr2(b'?', b'#', path.as_bytes()) {
        Some(end) => path.get(..end).unwrap_or_default(),
        None => path,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
