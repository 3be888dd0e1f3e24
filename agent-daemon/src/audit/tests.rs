use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ersatz_policy::Reason;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn tag() -> SandboxTag {
    SandboxTag::new(&Subject {
        name: "agent",
        epoch: 7,
        ..Subject::default()
    })
}

fn record(sandbox: &SandboxTag) -> Record<'_> {
    Record {
        id: RecordId::next(),
        sandbox,
        protocol: Protocol::H1,
        method: "GET",
        authority: "api.example.com",
        path: "/repos/acme",
        status: Some(200),
        verdict: Verdict::Allow,
        reason: None,
        credentials: &[],
        bytes_in: 0,
        bytes_out: 1234,
        started: Instant::now(),
        upstream_time: None,
        upstream: None,
        tls: Some("1.3"),
    }
}

fn line(record: &Record<'_>) -> String {
    let mut line = Vec::new();
    record.write(&mut line);
    String::from_utf8(line).unwrap()
}

fn parsed(record: &Record<'_>) -> Value {
    serde_json::from_str(&line(record)).unwrap()
}

#[test]
fn holds_every_field() {
    let sandbox = SandboxTag::new(&Subject {
        name: "agent",
        namespace: Some("team-a"),
        uid: Some("0b1c"),
        epoch: 7,
    });
    let swaps = [Swap {
        name: "github",
        placement: "header authorization",
    }];
    let full = Record {
        credentials: &swaps,
        upstream_time: Some(Duration::from_micros(1500)),
        upstream: Some("192.0.2.1:443".parse::<SocketAddr>().unwrap()),
        ..record(&sandbox)
    };
    let mut value = parsed(&full);
    assert!(value["times"]["total_us"].is_u64());
    value["times"]["total_us"] = json!(0);
    value["time"] = json!("");
    assert_eq!(
        value,
        json!({
            "time": "", "id": full.id.to_string(),
            "sandbox": {"name": "agent", "namespace": "team-a", "uid": "0b1c", "epoch": 7},
            "protocol": "h1", "method": "GET", "authority": "api.example.com", "path": "/repos/acme",
            "status": 200, "verdict": "allow",
            "credentials": [{"name": "github", "placement": "header authorization"}],
            "bytes_in": 0, "bytes_out": 1234, "times": {"total_us": 0, "upstream_us": 1500},
            "upstream": "192.0.2.1:443", "tls": "1.3",
        })
    );
}

#[test]
fn leaves_out_what_is_not_known() {
    let sandbox = tag();
    let value = parsed(&Record {
        protocol: Protocol::Dns,
        method: "",
        path: "",
        status: None,
        tls: None,
        verdict: Verdict::Deny,
        reason: Some(Reason::HostNotAllowed),
        ..record(&sandbox)
    });
    let keys: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "authority",
        "bytes_in",
        "bytes_out",
        "credentials",
        "id",
        "protocol",
        "reason",
        "sandbox",
        "time",
        "times",
        "verdict",
    ];
    assert!(
        expected.iter().all(|key| keys.contains(key)) && keys.len() == expected.len(),
        "{keys:?}"
    );
    assert_eq!(value["reason"], "host-not-allowed");
}

#[test]
fn time_is_that_of_the_beginning_in_utc_with_microseconds() {
    let sandbox = tag();
    let before = jiff::Timestamp::now();
    let value = parsed(&Record {
        started: Instant::now().checked_sub(Duration::from_hours(1)).unwrap(),
        ..record(&sandbox)
    });
    let text = value["time"].as_str().unwrap();
    let time: jiff::Timestamp = text.parse().unwrap();
    assert_eq!(text.len(), "2026-11-23T19:18:51.000123Z".len());
    let expected = before.as_second() - 3600;
    assert!((expected..=expected + 5).contains(&time.as_second()));
}

#[test]
fn never_records_a_query() {
    let sandbox = tag();
    for path in ["/a?token=canary", "/a#canary", "/a?x#canary"] {
        let value = parsed(&Record {
            path,
            ..record(&sandbox)
        });
        assert_eq!(value["path"], "/a");
    }
}

#[test]
fn cuts_what_is_too_long_and_says_so() {
    let sandbox = tag();
    let path = format!("/{}", "\u{e9}".repeat(100_000));
    let value = parsed(&Record {
        path: &path,
        method: &"M".repeat(1000),
        ..record(&sandbox)
    });
    let path = value["path"].as_str().unwrap();
    assert!(path.ends_with('\u{2026}') && path.len() <= 1024 + 3);
    assert_eq!(value["method"].as_str().unwrap().chars().count(), 33);
}

proptest! {
    #[test]
    fn is_one_line_of_visible_ascii_whatever_a_tenant_chose(
        name in any::<String>(), method in any::<String>(), authority in any::<String>(),
        path in any::<String>(), credential in any::<String>(), forged in "[\"\\\\\n\r\u{1b}\u{9b}\u{202e}{},:a]{0,40}",
    ) {
        let sandbox = SandboxTag::new(&Subject { name: &name, ..Subject::default() });
        let swaps = [Swap { name: &credential, placement: &forged }];
        let text = line(&Record {
            method: &method, authority: &authority, path: &path, credentials: &swaps, ..record(&sandbox)
        });
        let (body, end) = text.split_at(text.len() - 1);
        prop_assert_eq!(end, "\n");
        prop_assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let value: Value = serde_json::from_str(body).unwrap();
        prop_assert_eq!(value["sandbox"]["name"].as_str().unwrap(), cut(&name, 253));
        prop_assert_eq!(value["credentials"][0]["placement"].as_str().unwrap(), forged);
        prop_assert_eq!(value["verdict"].as_str().unwrap(), "allow");
    }
}

fn cut(text: &str, max: usize) -> String {
    let end = text.floor_char_boundary(max);
    let ellipsis = if end < text.len() { "\u{2026}" } else { "" };
    format!("{}{ellipsis}", text.get(..end).unwrap())
}

#[tokio::test]
async fn each_record_has_an_id_of_its_own() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(Target::To(sink::Target::File(path.clone()))).unwrap();
    let sandbox = tag();
    for _ in 0..100 {
        audit.record(&record(&sandbox));
    }
    audit.flush().await;
    let text = fs::read_to_string(path).unwrap();
    let ids: std::collections::HashSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 100);
}

#[tokio::test]
async fn records_nothing_when_off() {
    let audit = Audit::open(Target::Off).unwrap();
    let sandbox = tag();
    audit.record(&record(&sandbox));
    audit.flush().await;
    assert_eq!(audit.lost(), 0);
}

#[test]
fn mark_of_a_loss_is_a_json_line() {
    let value: Value = serde_json::from_str(&loss_mark(12)).unwrap();
    assert_eq!(value["event"], "records-lost");
    assert_eq!(value["records"], 12);
    assert!(
        value["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
}
