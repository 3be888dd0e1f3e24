//! The rig itself: what the scenarios build upon holds without the product.

use std::{process::Command, time::Duration};

use anyhow::Result;
use ersatz_tests::rig::{Node, Running, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// curl on the node itself, which knows the world's names by `--resolve`.
fn curl(node: &Node, host: &str, address: &str) -> Command {
    let mut curl = node.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--noproxy",
        "*",
    ]);
    curl.args(["--resolve", &format!("{host}:443:{address}")]);
    curl.arg("--cacert").arg(node.directory().join("ca.pem"));
    curl
}

#[test]
fn a_server_wants_the_real_secret_and_writes_down_what_it_got() -> Result<()> {
    let node = Node::new()?;
    let real = format!("Authorization: Bearer {}", node.secrets().api);
    for (version, address) in [("--http1.1", "10.213.0.1"), ("--http2", "[fdd5:213:1::1]")] {
        let mut with = curl(&node, "api.test", address);
        with.args([
            version,
            "-H",
            &real,
            "-H",
            "X-CaSe: kept",
            "https://api.test/echo?x=1",
        ]);
        let answer = Running::start(with)?.finish(PATIENCE)?.success()?;
        assert!(answer.contains("\"ok\":true"), "{answer}");

        let mut without = curl(&node, "api.test", address);
        without.args([
            version,
            "-H",
            "Authorization: Bearer stub",
            "https://api.test/echo",
        ]);
        let answer = Running::start(without)?.finish(PATIENCE)?.success()?;
        assert!(answer.contains("unauthorized"), "{answer}");
    }
    let ledger = node
        .ledger()?
        .with(&[("kind", "request"), ("sni", "api.test")]);
    assert_eq!(
        ledger.field("version"),
        ["HTTP/1.1", "HTTP/1.1", "HTTP/2.0", "HTTP/2.0"]
    );
    let heads = ledger.field("raw_head").concat();
    assert!(heads.contains("\r\nX-CaSe: kept\r\n"), "{ledger}");
    Ok(())
}

#[test]
fn bad_certificates_are_bad_to_any_client() -> Result<()> {
    let node = Node::new()?;
    let hosts = ["expired", "future", "selfsigned", "wrongname", "unknownca"];
    for (number, host) in (9..).zip(hosts) {
        let host = format!("{host}.test");
        let mut curl = curl(&node, &host, &format!("10.213.0.{number}"));
        curl.arg(format!("https://{host}/"));
        let code = Running::start(curl)?.finish(PATIENCE)?.status.code();
        assert_eq!(code, Some(60), "{host}: curl's code for a bad certificate");
    }
    assert!(node.ledger()?.with(&[("kind", "request")]).is_empty());
    Ok(())
}

#[test]
fn the_witness_sees_every_frame() -> Result<()> {
    let node = Node::new()?;
    let (witness, frames) = node.witness()?;
    let mut curl = curl(&node, "open.test", "10.213.0.4");
    Running::start({
        curl.arg("https://open.test/");
        curl
    })?
    .finish(PATIENCE)?
    .success()?;
    drop(witness);
    let frames = std::fs::read_to_string(frames)?;
    let syn = frames
        .lines()
        .find(|line| line.contains("> 10.213.0.4:443 flags=02"));
    assert!(
        syn.is_some_and(|line| line.starts_with("tcp 10.213.255.1:")),
        "{frames}"
    );
    Ok(())
}

#[test]
fn names_are_answered_by_the_worlds_own_server() -> Result<()> {
    let node = Node::new()?;
    let script = "import socket, struct
def ask(name, kind):
    query = struct.pack('>6H', 7, 0x100, 1, 0, 0, 0)
    query += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0'
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
    s.sendto(query + struct.pack('>2H', kind, 1), ('10.213.255.2', 53))
    answer = s.recv(4096)
    return answer[3] & 15, struct.unpack('>H', answer[6:8])[0], answer[-4:]
print(ask('api.test', 1), ask('api.test', 28)[:2], ask('nowhere.test', 1)[:2])";
    let mut python = node.command("python3");
    python.args(["-c", script]);
    let answer = Running::start(python)?.finish(PATIENCE)?.success()?;
    assert_eq!(answer.trim(), r"(0, 1, b'\n\xd5\x00\x01') (0, 1) (3, 0)");
    assert_eq!(node.ledger()?.with(&[("kind", "dns")]).len(), 3);
    Ok(())
}

#[test]
fn a_node_ends_with_all_that_was_started_in_it() -> Result<()> {
    let node = Node::new()?;
    let before = node.inventory()?;
    let sleeper = Running::start({
        let mut sleep = node.command("sleep");
        sleep.arg("1000");
        sleep
    })?;
    let pid = sleeper.pid()?;
    let new = before.difference(&node.inventory()?);
    assert_eq!(new, ["+ process sleep 1000 "]);
    drop(node);
    // It is killed at once, and gone when the kernel has taken it apart.
    let root = format!("/proc/{pid}/root/etc");
    wait_until(PATIENCE, || {
        (!std::path::Path::new(&root).exists()).then_some(())
    })?;
    Ok(())
}
