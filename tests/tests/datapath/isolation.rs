//! Sandboxes share nothing, and one of them costs the others little.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ersatz_tests::rig::{Node, Running, Settings, Stepwise};

const REQUEST: &str = r#"curl -sS --max-time 10 -o /dev/null -w '%{http_code}\n' \
    -H "Authorization: Bearer $API_TOKEN" https://api.test/"#;

#[test]
fn upstream_connections_are_pooled_for_each_sandbox_alone() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let mut sandboxes = [Stepwise::start(&node)?, Stepwise::start(&node)?];
    let mut used: Vec<BTreeSet<String>> = Vec::new();
    for sandbox in &mut sandboxes {
        let before = node.ledger()?.with(&[("kind", "request")]).len();
        for _ in 0..3 {
            ensure!(sandbox.step(REQUEST)? == "200\n");
        }
        let requests = node.ledger()?.with(&[("kind", "request")]);
        used.push(
            requests
                .field("connection")
                .into_iter()
                .skip(before)
                .collect(),
        );
    }
    let [first, second] = used.as_slice() else {
        anyhow::bail!("two sandboxes")
    };
    assert!(first.is_disjoint(second), "{first:?} {second:?}");
    assert!(
        first.len() < 3 && second.len() < 3,
        "reused: {first:?} {second:?}"
    );
    Ok(())
}

#[test]
fn a_sandbox_reaches_no_other() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let serving = "python3 -m http.server 8080 --bind :: >/dev/null 2>&1";
    let _server = Running::start(node.sandboxed(&["sh", "-c", serving]))?;
    let script = "for address in 100.64.0.2 '[fd00:e25a::2]' 100.64.0.3 100.64.0.1; do
          curl -s -o /dev/null --max-time 3 http://$address:8080/; echo $address $?
        done";
    let answer = node.shell(script)?.success()?;
    ensure!(answer.lines().all(|line| !line.ends_with(" 0")), "{answer}");
    Ok(())
}

#[test]
fn a_flood_of_one_sandbox_leaves_its_neighbour_served() -> Result<()> {
    let node = Node::new()?;
    let mut daemon = node.daemon()?;
    let mut neighbour = Stepwise::start(&node)?;
    let flood = r"python3 - <<'END'
import random, resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
address = socket.getaddrinfo('api.test', 443, socket.AF_INET)[0][4]
end, held = time.time() + 8, []
while time.time() < end:
    try:
        s = socket.socket(); s.settimeout(2); s.connect(address)
        s.send(b'\x16\x03\x01\x02\x00\x01')   # a handshake that never goes on
        held.append(s)
        if len(held) > 6000: held.pop(random.randrange(6000)).close()
    except OSError: pass
END";
    let flooding = Running::start(node.sandboxed(&["sh", "-c", flood]))?;
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(6) {
        let asked = Instant::now();
        let status = neighbour.step(REQUEST)?;
        ensure!(status == "200\n", "{status}");
        slowest = slowest.max(asked.elapsed());
    }
    println!("slowest request beside the flood: {slowest:?}");
    flooding.finish(Duration::from_mins(1))?;
    assert!(daemon.is_alive());
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    Ok(())
}

#[test]
fn each_sandbox_has_the_policy_it_was_given() -> Result<()> {
    let more = "---\napiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: readers}\n\
                spec:\n  credentials: []\n  allow:\n  - {hosts: [open.test]}\n";
    let node = Node::with(Settings {
        more: more.into(),
        ..Settings::default()
    })?;
    let _daemon = node.daemon()?;
    let script = "curl -sS --max-time 10 -o /dev/null -w '%{http_code} ' https://open.test/
        curl -sS --max-time 10 -o /dev/null -w '%{http_code} ' https://other.test/; env";
    let reader = node.ersatz_run(&["--policy", "readers"], &["sh", "-c", script]);
    let reader = Running::start(reader)?
        .finish(Duration::from_mins(1))?
        .success()?;
    assert!(reader.starts_with("200 000"), "{reader}");
    assert!(!reader.contains("API_TOKEN"), "{reader}");
    let agent = node.shell(script)?.success()?;
    assert!(agent.starts_with("200 200"), "{agent}");
    let unknown = node.ersatz_run(&["--policy", "nobody"], &["true"]);
    let unknown = Running::start(unknown)?.finish(Duration::from_mins(1))?;
    assert_eq!(unknown.status.code(), Some(125), "{unknown:?}");
    assert!(unknown.stderr.contains("nobody"), "{unknown:?}");
    Ok(())
}
