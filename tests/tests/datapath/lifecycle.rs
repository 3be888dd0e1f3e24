//! The daemon dies, comes back, is told new things; and leaves nothing behind.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ersatz_tests::rig::{Daemon, Finished, Node, Records, Settings, Stepwise, text, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
/// A change of policy or secret, and a new daemon, take effect within this.
const SOON: Duration = Duration::from_secs(1);

const REQUEST: &str = r#"curl -sS --max-time 10 -o /dev/null -w '%{http_code}' \
    -H "Authorization: Bearer $API_TOKEN" https://api.test/"#;

/// Tries everything that a sandbox could try to get out.
const TRY_ALL: &str = r"python3 - <<'END'
import socket
def tcp(address, port):
    with socket.create_connection((address, port), 1) as s: s.sendall(b'x')
def udp(address, port):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s: s.sendto(b'x', (address, port))
reached = []
for address in ('10.213.0.1', 'fdd5:213:1::1', '10.213.255.1', '10.213.255.2', 'fdd5:213:ffff::2'):
    for port in (443, 80, 53):
        try:
            tcp(address, port); reached.append((address, port))
        except OSError: pass
        for _ in range(3):
            try: udp(address, port)
            except OSError: pass
print('reached', reached)
END
curl -s --max-time 2 -o /dev/null https://api.test/; echo curl $?";

#[test]
fn a_killed_daemon_lets_nothing_out_and_the_next_one_serves_on() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let mut sandbox = Stepwise::start(&node)?;
    assert_eq!(sandbox.step(REQUEST)?, "200");

    daemon.kill()?;
    // What the kernel still says for the dead process's sockets comes first.
    std::thread::sleep(Duration::from_millis(300));
    let (witness, frames) = node.witness()?;
    let tried = sandbox.step(TRY_ALL)?;
    assert!(
        tried.contains("reached []") && !tried.contains("curl 0"),
        "{tried}"
    );
    drop(witness);
    let frames = fs::read_to_string(frames)?;
    let leaked: Vec<&str> = frames.lines().filter(|frame| !is_farewell(frame)).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");

    let started = Instant::now();
    let daemon = node.daemon()?;
    let ready = started.elapsed();
    // A question that comes before the sandbox is enrolled again is lost: asked once more.
    let again = REQUEST.replace("--max-time 10", "--max-time 0.3");
    let until = format!("until [ \"$({again})\" = 200 ]; do :; done; echo served");
    assert!(
        sandbox.step(&until)?.ends_with("served\n"),
        "the same sandbox, the same stub, the same CA"
    );
    let served = started.elapsed();
    println!("ready after {ready:?}, the sandbox served after {served:?}");
    assert!(
        served < SOON,
        "ready after {ready:?}, served after {served:?}"
    );
    assert!(daemon.metric("ersatz_sandboxes", &[])? >= 1);
    Ok(())
}

/// A frame that no sandbox caused: neighbours, and the end of old connections.
fn is_farewell(frame: &str) -> bool {
    let ends = ["flags=10", "flags=11", "flags=14", "flags=04"];
    frame == "arp"
        || frame.starts_with("icmp6")
        // The world's own link says which multicast groups it listens to.
        || frame == "protocol-0 [::] > [ff02::16]"
        || (frame.starts_with("tcp")
            && frame.ends_with("payload=0")
            && ends.iter().any(|flags| frame.contains(flags)))
}

#[test]
fn a_new_policy_and_a_new_secret_count_within_a_second() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let mut sandbox = Stepwise::start(&node)?;
    let evil = "curl -sS --max-time 10 -o /dev/null -w '%{http_code}' https://evil.test/";
    assert!(!sandbox.step(evil)?.contains("200"));

    node.write_config(&Settings::default().allowing("  - {hosts: [evil.test]}\n"))?;
    within_a_second(
        || Ok(sandbox.step(evil)?.ends_with("200")),
        "allowed by the new policy",
    )?;
    node.write_config(&Settings::default())?;
    within_a_second(
        || Ok(!sandbox.step(evil)?.ends_with("200")),
        "denied by the old one",
    )?;

    node.write_secret("api", "ghp_anewsecretthatisrotated")?;
    let rotated = || -> Result<bool> {
        sandbox.step(REQUEST)?;
        let requests = node
            .ledger()?
            .with(&[("kind", "request"), ("sni", "api.test")]);
        let last = requests.field("headers").pop().unwrap_or_default();
        Ok(last.contains("ghp_anewsecretthatisrotated"))
    };
    within_a_second(rotated, "the new secret is used")?;
    assert!(daemon.metric("ersatz_config_reloads_total", &[])? >= 2);
    Ok(())
}

fn within_a_second(mut look: impl FnMut() -> Result<bool>, what: &str) -> Result<()> {
    let started = Instant::now();
    while !look()? {
        ensure!(started.elapsed() < SOON, "not within a second: {what}");
    }
    Ok(())
}

#[test]
fn a_broken_file_keeps_the_last_good_state() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let mut sandbox = Stepwise::start(&node)?;
    fs::write(
        node.directory().join("config/policy.yaml"),
        "kind: [EgressPolicy\n  nonsense",
    )?;
    wait_until(PATIENCE, || {
        let failed = daemon.metric("ersatz_config_reloads_total", &[r#"result="failed""#]);
        failed.ok().filter(|count| *count >= 1)
    })?;
    assert_eq!(sandbox.step(REQUEST)?, "200");
    let said = daemon.stop()?;
    assert!(said.stderr.contains("policy.yaml"), "{}", said.stderr);
    Ok(())
}

#[test]
fn one_record_for_each_request_no_more_and_no_less() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let script = r#"for n in $(seq 40); do
        curl -sS --max-time 10 -o /dev/null -H "Authorization: Bearer $API_TOKEN" \
          https://api.test/one/$n https://open.test/two/$n 2>&1
        done"#;
    node.shell(script)?;
    daemon.stop()?;
    let paths = |records: &Records, field: &str, host: &str| {
        let mut paths = records.field(field);
        for path in &mut paths {
            *path = path.replace(&format!("https://{host}"), "");
        }
        paths.sort();
        paths
    };
    let ledger = node
        .ledger()?
        .with(&[("kind", "request"), ("sni", "api.test")]);
    let allowed = node
        .audit()?
        .with(&[("verdict", "allow"), ("authority", "api.test")]);
    assert_eq!(
        paths(&ledger, "target", "api.test"),
        paths(&allowed, "path", "")
    );
    assert_eq!(ledger.len(), 40);
    let refused = node.audit()?.with(&[("reason", "stub-wrong-host")]);
    assert_eq!(refused.len(), 40, "{refused}");
    Ok(())
}

#[test]
fn garbage_ends_neither_daemon_nor_other_connections() -> Result<()> {
    let node = Node::new()?;
    let mut daemon = node.daemon()?;
    let script = r"python3 - <<'END'
import os, random, socket
random.seed(7)
targets = [socket.getaddrinfo('api.test', 443, family)[0][4][0] for family in (socket.AF_INET, socket.AF_INET6)]
hello = bytes.fromhex('16030100c8010000c40303') + bytes(200)
for number in range(300):
    data = [os.urandom(random.randrange(1, 2000)), hello[:random.randrange(1, len(hello))],
            b'\x16\x03\x01\xff\xff' + os.urandom(100), b'GET / HTTP/1.1\r\n' + os.urandom(50),
            b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + os.urandom(100), b''][number % 6]
    try:
        s = socket.create_connection((targets[number % 2], 443), 5)
        s.sendall(data)
        s.close()
    except OSError: pass
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.sendto(os.urandom(random.randrange(0, 600)), ('100.64.0.1', 53))
END";
    node.shell(script)?.success()?;
    assert!(daemon.is_alive());
    assert_eq!(node.shell(REQUEST)?.stdout, "200");
    Ok(())
}

#[test]
fn a_daemon_changes_nothing_of_the_node_but_its_own_link() -> Result<()> {
    let node = Node::new()?;
    let before = node.inventory()?;
    let daemon = node.daemon()?;
    let sandbox = Stepwise::start(&node)?;
    let changed = before.difference(&node.inventory()?);
    let foreign: Vec<&String> = changed.iter().filter(|line| !is_own(line)).collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
    assert!(
        changed.iter().any(|line| line == "+ link ersatz0"),
        "{changed:#?}"
    );

    drop(sandbox);
    let before_sandbox = before_sandboxes(&node, &daemon)?;
    assert!(before_sandbox.is_empty(), "{before_sandbox:#?}");
    Ok(())
}

/// Links of sandboxes that are still there some time after they ended.
fn before_sandboxes(node: &Node, daemon: &Daemon<'_>) -> Result<Vec<String>> {
    wait_until(PATIENCE, || {
        daemon
            .metric("ersatz_sandboxes", &[])
            .ok()
            .filter(|open| *open == 0)
    })?;
    let output = node.command("ip").args(["-o", "link"]).output()?;
    let links = String::from_utf8_lossy(&output.stdout).into_owned();
    let foreign = |line: &&str| {
        !["lo:", "node0", "ersatz0"]
            .iter()
            .any(|name| line.contains(name))
    };
    Ok(links.lines().filter(foreign).map(str::to_owned).collect())
}

/// What the product may add to a node while it runs.
fn is_own(line: &str) -> bool {
    ["+ link ", "+ process ", "+ state ", "+ mount /run/ersatz"]
        .iter()
        .any(|prefix| line.starts_with(prefix))
}

#[test]
fn a_daemon_that_is_stopped_says_nothing_is_wrong() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    node.shell(REQUEST)?.success()?;
    let Finished {
        status,
        stdout,
        stderr,
    } = daemon.stop()?;
    assert!(status.success(), "{status}: {stderr}");
    for output in [stdout, stderr] {
        assert_eq!(node.secrets().find_in(output.as_bytes()), None);
        assert!(!output.contains("panicked"), "{output}");
    }
    let record = node.audit_with(|record| text(record, "authority") == "api.test")?;
    assert_eq!(text(&record, "status"), "200", "{record}");
    Ok(())
}
