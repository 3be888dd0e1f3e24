//! Counters, gauges and histograms, in Prometheus' text format.
//!
//! No label has a value that a tenant chooses: reasons, verdicts, protocols
//! and results are closed sets, credentials are the operator's names and
//! bounded in number. What a request touches is resolved once and is an atomic
//! addition afterwards. The names are listed in SPECIFICATION.md.

mod table;

use std::{fmt::Debug, sync::Arc};

use ersatz_policy::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, text},
    metrics::{
        TypedMetric, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use self::table::{Named, Table};
use crate::audit::{Protocol, Record, Verdict};

type Label = (&'static str, &'static str);
type Counters<L> = Family<L, Counter>;

/// All the metrics of a daemon.
pub struct Metrics {
    registry: Registry,
    connections: Table<3>,
    requests: Table<2>,
    swaps: Named,
    handshakes: Table<1>,
    upstream_connections: Table<1>,
    dns: Table<1>,
    config_reloads: Table<1>,
    bytes: [Counter; 2],
    request_seconds: Histogram,
    upstream_seconds: Histogram,
    /// Leaf certificates that were minted.
    pub mints: Counter,
    /// Leaf certificates held at the moment.
    pub leaf_cache_size: Gauge,
    /// Upstream connections held open for later requests.
    pub upstream_idle: Gauge,
    /// Sandboxes enrolled at the moment.
    pub sandboxes: Gauge,
    /// Credentials whose real value cannot be read at the moment.
    pub secrets_unavailable: Gauge,
    open_connections: Gauge,
    drops: Counters<[Label; 1]>,
    audit_lost: Counter,
    log_lost: Counter,
}

/// How a handshake with a sandbox, or a dial to an upstream, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Failed,
    Timeout,
}

/// How a DNS query was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsVerdict {
    Answered,
    Refused,
    Malformed,
    OverBudget,
}

/// Numbers that others keep and that are read when the metrics are.
#[derive(Debug, Clone, Default)]
pub struct Scraped {
    /// Frames that the kernel programs dropped, by reason, since they were loaded.
    pub drops: Vec<(&'static str, u64)>,
    pub audit_lost: u64,
    pub log_lost: u64,
}

/// A connection of a sandbox, counted as open until this is dropped.
pub struct OpenConnection(Gauge);

impl Metrics {
    pub fn new() -> Arc<Metrics> {
        let mut registry = Registry::with_prefix("ersatz");
        let r = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The daemon's build", build);
        let bytes = Counters::<[Label; 1]>::default();
        r.register(
            "bytes",
            "Bytes of bodies and passed connections",
            bytes.clone(),
        );
        let bytes = ["from-sandbox", "to-sandbox"]
            .map(|direction| bytes.get_or_create_owned(&[("direction", direction)]));
        Arc::new(Metrics {
            bytes,
            connections: table(
                r,
                "connections",
                "Connections of sandboxes that have ended or were refused",
            ),
            requests: table(r, "requests", "HTTP requests"),
            swaps: Named::new(
                "credential",
                add(r, "swaps", "Stubs that were replaced by the real value"),
            ),
            handshakes: table(r, "handshakes", "TLS handshakes with sandboxes"),
            upstream_connections: table(
                r,
                "upstream_connections",
                "Connections dialled to upstreams",
            ),
            dns: table(r, "dns_queries", "DNS queries of sandboxes"),
            config_reloads: table(
                r,
                "config_reloads",
                "Times the configuration was read again",
            ),
            request_seconds: seconds(
                r,
                "request_seconds",
                "From a request's head to the end of its answer",
            ),
            upstream_seconds: seconds(
                r,
                "upstream_seconds",
                "From a request's head to the first byte of the upstream's answer",
            ),
            mints: add(r, "mints", "Leaf certificates minted"),
            leaf_cache_size: add(r, "leaf_cache_size", "Leaf certificates held"),
            upstream_idle: add(
                r,
                "upstream_idle_connections",
                "Upstream connections held open for later requests",
            ),
            sandboxes: add(r, "sandboxes", "Sandboxes enrolled"),
            secrets_unavailable: add(
                r,
                "secrets_unavailable",
                "Credentials whose real value cannot be read",
            ),
            open_connections: add(r, "open_connections", "Connections of sandboxes open now"),
            drops: add(r, "drops", "Frames of sandboxes dropped in the kernel"),
            audit_lost: add(
                r,
                "audit_records_lost",
                "Audit records that were not written",
            ),
            log_lost: add(r, "log_lines_lost", "Log lines that were not written"),
            registry,
        })
    }

    /// Counts a request from its record: verdict, swaps, bytes and times.
    pub fn request(&self, record: &Record<'_>) {
        let reason = record.reason.map_or("", Reason::as_str);
        let verdict = record.verdict;
        let cell = decision(verdict, record.reason);
        let labels = || [("verdict", verdict.as_str()), ("reason", reason)];
        self.requests.at(cell, labels).inc();
        for swap in record.credentials {
            self.swaps.of(swap.name).inc();
        }
        self.moved(record.bytes_in, record.bytes_out);
        self.request_seconds
            .observe(record.started.elapsed().as_secs_f64());
        if let Some(upstream) = record.upstream_time {
            self.upstream_seconds.observe(upstream.as_secs_f64());
        }
    }

    /// Counts a connection that was refused, or passed without being read,
    /// from its record.
    pub fn connection(&self, record: &Record<'_>) {
        self.accepted(record.protocol, record.verdict, record.reason);
        self.moved(record.bytes_in, record.bytes_out);
    }

    /// Counts a connection: intercepted ones have no record of their own.
    pub fn accepted(&self, protocol: Protocol, verdict: Verdict, reason: Option<Reason>) {
        let cell = protocol as usize * DECISIONS + decision(verdict, reason);
        let reason = reason.map_or("", Reason::as_str);
        let labels = || {
            [
                ("protocol", protocol.as_str()),
                ("verdict", verdict.as_str()),
                ("reason", reason),
            ]
        };
        self.connections.at(cell, labels).inc();
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn open_connection(&self) -> OpenConnection {
        self.open_connections.inc();
        OpenConnection(self.open_connections.clone())
    }

    pub fn handshake(&self, outcome: Outcome) {
        self.handshakes.result(outcome).inc();
    }

    pub fn upstream_connection(&self, outcome: Outcome) {
        self.upstream_connections.result(outcome).inc();
    }

    pub fn config_reload(&self, ok: bool) {
        let outcome = if ok { Outcome::Ok } else { Outcome::Failed };
        self.config_reloads.result(outcome).inc();
    }

    pub fn dns(&self, verdict: DnsVerdict) {
        let labels = || [("verdict", verdict.as_str())];
        self.dns.at(verdict as usize, labels).inc();
    }

    /// The text of a scrape.
    pub fn encode(&self, scraped: &Scraped) -> String {
        for (reason, count) in &scraped.drops {
            raise(
                &self.drops.get_or_create_owned(&[("reason", reason)]),
                *count,
            );
        }
        raise(&self.audit_lost, scraped.audit_lost);
        raise(&self.log_lost, scraped.log_lost);
        let mut text = String::with_capacity(32 << 10);
        text::encode(&mut text, &self.registry).expect("a string takes all that is written");
        text
    }

    fn moved(&self, from_sandbox: u64, to_sandbox: u64) {
        let [from, to] = &self.bytes;
        from.inc_by(from_sandbox);
        to.inc_by(to_sandbox);
    }
}

/// Cells that one verdict with all its reasons takes in a table: allow,
/// passthrough, deny without and with each reason.
const DECISIONS: usize = 3 + Reason::ALL.len();

fn decision(verdict: Verdict, reason: Option<Reason>) -> usize {
    match (verdict, reason) {
        (Verdict::Allow, _) => 0,
        (Verdict::Passthrough, _) => 1,
        (Verdict::Deny, None) => 2,
        (Verdict::Deny, Some(reason)) => 3 + reason as usize,
    }
}

impl Table<1> {
    fn result(&self, outcome: Outcome) -> &Counter {
        self.at(outcome as usize, || [("result", outcome.as_str())])
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Timeout => "timeout",
        }
    }
}

impl DnsVerdict {
    fn as_str(self) -> &'static str {
        match self {
            DnsVerdict::Answered => "answered",
            DnsVerdict::Refused => "refused",
            DnsVerdict::Malformed => "malformed",
            DnsVerdict::OverBudget => "over-budget",
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Registers a metric and hands it out.
fn add<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: EncodeMetric + TypedMetric + Default + Clone + Debug + Send + Sync + 'static,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn table<const N: usize>(registry: &mut Registry, name: &str, help: &str) -> Table<N>
where
    [Label; N]: EncodeLabelSet,
{
    Table::new(add(registry, name, help), Protocol::ALL.len() * DECISIONS)
}

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let buckets = [
        0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0, 30.0, 120.0,
    ];
    let histogram = Histogram::new(buckets);
    registry.register(name, help, histogram.clone());
    histogram
}

/// Brings a counter up to a count that is kept elsewhere.
fn raise(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests;
