use std::time::{Duration, Instant};

use super::{table::NAMES, *};
use crate::audit::{RecordId, SandboxTag, Subject, Swap};

fn record<'a>(sandbox: &'a SandboxTag, credentials: &'a [Swap<'a>]) -> Record<'a> {
    Record {
        id: RecordId::next(),
        sandbox,
        protocol: Protocol::H2,
        method: "GET",
        authority: "tenant-chosen.example",
        path: "/tenant-chosen",
        status: Some(200),
        verdict: Verdict::Allow,
        reason: None,
        credentials,
        bytes_in: 10,
        bytes_out: 20,
        started: Instant::now(),
        upstream_time: Some(Duration::from_millis(3)),
        upstream: None,
        tls: None,
    }
}

#[test]
fn counts_requests_by_verdict_and_reason_and_swaps_by_credential() {
    let metrics = Metrics::new();
    let sandbox = SandboxTag::new(&Subject::default());
    let swaps = [Swap {
        name: "github",
        placement: "header authorization",
    }];
    metrics.request(&record(&sandbox, &swaps));
    metrics.request(&record(&sandbox, &swaps));
    for &reason in Reason::ALL {
        metrics.request(&Record {
            verdict: Verdict::Deny,
            reason: Some(reason),
            ..record(&sandbox, &[])
        });
    }
    let text = metrics.encode(&Scraped::default());
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    has(r#"ersatz_requests_total{verdict="allow",reason=""} 2"#);
    for reason in Reason::ALL {
        has(&format!(
            r#"ersatz_requests_total{{verdict="deny",reason="{reason}"}} 1"#
        ));
    }
    let requests = 2 + Reason::ALL.len();
    has(r#"ersatz_swaps_total{credential="github"} 2"#);
    has(&format!(
        r#"ersatz_bytes_total{{direction="from-sandbox"}} {}"#,
        10 * requests
    ));
    has(&format!(
        r#"ersatz_bytes_total{{direction="to-sandbox"}} {}"#,
        20 * requests
    ));
    has(&format!("ersatz_request_seconds_count {requests}"));
    has(&format!(
        r#"ersatz_upstream_seconds_bucket{{le="0.005"}} {requests}"#
    ));
    has(r#"ersatz_upstream_seconds_bucket{le="0.0025"} 0"#);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn no_label_has_a_value_that_a_tenant_chose() {
    let metrics = Metrics::new();
    let sandbox = SandboxTag::new(&Subject {
        name: "tenant-chosen",
        ..Subject::default()
    });
    let record = record(&sandbox, &[]);
    metrics.request(&record);
    metrics.connection(&record);
    assert!(
        !metrics
            .encode(&Scraped::default())
            .contains("tenant-chosen")
    );
}

#[test]
fn counts_connections_each_in_its_own_series() {
    let metrics = Metrics::new();
    let decisions = |verdict| match verdict {
        Verdict::Deny => Reason::ALL.iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    let mut expected = 0;
    for protocol in Protocol::ALL {
        for verdict in Verdict::ALL {
            for reason in decisions(verdict) {
                metrics.accepted(protocol, verdict, reason);
                expected += 1;
            }
        }
    }
    let text = metrics.encode(&Scraped::default());
    let ones = text
        .lines()
        .filter(|line| line.starts_with("ersatz_connections_total{") && line.ends_with(" 1"));
    assert_eq!(ones.count(), expected);
}

#[test]
fn open_connections_go_down_when_the_guard_is_dropped() {
    let metrics = Metrics::new();
    let (one, two) = (metrics.open_connection(), metrics.open_connection());
    drop(one);
    let text = metrics.encode(&Scraped::default());
    assert!(text.contains("\nersatz_open_connections 1\n"), "{text}");
    drop(two);
    let text = metrics.encode(&Scraped::default());
    assert!(text.contains("\nersatz_open_connections 0\n"), "{text}");
}

#[test]
fn credentials_beyond_the_bound_share_a_series() {
    let metrics = Metrics::new();
    for i in 0..NAMES + 5 {
        metrics.swaps.of(&format!("credential-{i}")).inc();
    }
    let text = metrics.encode(&Scraped::default());
    let series = text
        .lines()
        .filter(|line| line.starts_with("ersatz_swaps_total{"));
    assert_eq!(series.count(), NAMES + 1);
    assert!(text.contains("ersatz_swaps_total{credential=\"other\"} 5\n"));
}

#[test]
fn scraped_counts_do_not_add_up() {
    let metrics = Metrics::new();
    let scraped = Scraped {
        drops: vec![("fragment", 3)],
        audit_lost: 2,
        log_lost: 1,
    };
    metrics.encode(&scraped);
    let text = metrics.encode(&scraped);
    for line in [
        "ersatz_drops_total{reason=\"fragment\"} 3\n",
        "ersatz_audit_records_lost_total 2\n",
        "ersatz_log_lines_lost_total 1\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn outcomes_are_counted_apart() {
    let metrics = Metrics::new();
    metrics.handshake(Outcome::Failed);
    metrics.upstream_connection(Outcome::Timeout);
    metrics.config_reload(true);
    metrics.dns(DnsVerdict::OverBudget);
    let text = metrics.encode(&Scraped::default());
    for line in [
        "ersatz_handshakes_total{result=\"failed\"} 1\n",
        "ersatz_upstream_connections_total{result=\"timeout\"} 1\n",
        "ersatz_config_reloads_total{result=\"ok\"} 1\n",
        "ersatz_dns_queries_total{verdict=\"over-budget\"} 1\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// The specification lists what is there, and nothing else.
#[test]
fn the_specification_names_every_metric_and_every_reason() {
    let specification = include_str!("../../../SPECIFICATION.md");
    let metrics = Metrics::new();
    metrics.accepted(Protocol::Tls, Verdict::Allow, None);
    metrics.dns(DnsVerdict::Answered);
    metrics.handshake(Outcome::Ok);
    metrics.upstream_connection(Outcome::Ok);
    metrics.config_reload(true);
    let text = metrics.encode(&Scraped::default());
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for family in families {
        let (name, kind) = family.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("`{name}{suffix}`");
        assert!(specification.contains(&name), "{name} is not specified");
    }
    for reason in Reason::ALL {
        let row = format!("| `{reason}` | {} | ", reason.status());
        assert!(specification.contains(&row), "{reason} is not specified");
        assert!(
            specification.contains(reason.hint()),
            "the hint of {reason} is another"
        );
    }
    for drop in ersatz_steering::DropReason::ALL {
        let row = format!("| `{}` | ", drop.as_str());
        assert!(
            specification.contains(&row),
            "{} is not specified",
            drop.as_str()
        );
    }
}
