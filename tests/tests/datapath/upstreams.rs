//! Servers that must get nothing: wrong certificates, forbidden addresses.

use anyhow::{Result, ensure};
use ersatz_tests::rig::{Node, Running, Settings, text};

const REQUEST: &str = r"curl -sS --max-time 20 -o /dev/null -D - https://HOST.test/secret-path";

#[test]
fn a_bad_certificate_gets_not_one_byte_of_a_request() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let hosts = ["expired", "future", "selfsigned", "wrongname", "unknownca"];
    for host in hosts {
        let answer = node.shell(&REQUEST.replace("HOST", host))?;
        let seen = answer.stdout.to_ascii_lowercase();
        ensure!(
            seen.contains("502") && seen.contains("x-ersatz-reason: upstream-certificate"),
            "{host}: {answer:?}"
        );
        let record = node.audit_with(|record| text(record, "authority").starts_with(host))?;
        ensure!(
            text(&record, "reason") == "upstream-certificate",
            "{record}"
        );
    }
    let ledger = node.ledger()?;
    assert!(ledger.with(&[("kind", "request")]).is_empty(), "{ledger}");
    assert!(
        ledger.with(&[("kind", "closed")]).is_empty(),
        "no handshake was completed: {ledger}"
    );
    assert!(
        ledger.with(&[("kind", "handshake")]).len() >= hosts.len(),
        "{ledger}"
    );
    let counted = daemon.metric(
        "ersatz_requests_total",
        &[r#"reason="upstream-certificate""#],
    )?;
    assert!(counted >= hosts.len() as u64, "{counted}");
    Ok(())
}

#[test]
fn addresses_of_the_node_and_special_ones_are_never_dialled() -> Result<()> {
    let mut settings = Settings::default();
    // Even where the block is allowed, what is local to the node is not.
    settings.allow_private.extend([
        "10.213.255.0/24".to_owned(),
        "fdd5:213:ffff::/64".to_owned(),
    ]);
    let node = Node::with(settings)?;
    let _service = Running::start({
        let mut service = node.command("python3");
        service.args(["-m", "http.server", "443", "--bind", "::"]);
        service
    })?;
    let _daemon = node.daemon()?;
    for host in ["node", "loopback", "metadata", "private", "mapped"] {
        let answer = node.shell(&REQUEST.replace("HOST", host))?;
        let seen = answer.stdout.to_ascii_lowercase();
        ensure!(
            seen.contains("x-ersatz-reason: address-forbidden"),
            "{host}: {answer:?}"
        );
        let record = node.audit_with(|record| {
            text(record, "authority").starts_with(host) && !text(record, "reason").is_empty()
        })?;
        ensure!(text(&record, "reason") == "address-forbidden", "{record}");
    }
    Ok(())
}

#[test]
fn services_of_the_node_cannot_be_dialled_by_address() -> Result<()> {
    let node = Node::new()?;
    let _service = Running::start({
        let mut service = node.command("python3");
        service.args(["-m", "http.server", "8088", "--bind", "::"]);
        service
    })?;
    let _daemon = node.daemon()?;
    let script = "for address in 10.213.255.1 '[fdd5:213:ffff::1]' 127.0.0.1 '[::1]' 100.64.0.1 \
        0.0.0.0 169.254.169.254 '[::ffff:10.213.255.1]' '[fe80::1]' 10.213.0.1; do
          curl -s -o /dev/null --max-time 5 http://$address:8088/; echo \"$address $?\"
        done";
    let answer = node.shell(script)?.success()?;
    for line in answer.lines() {
        ensure!(!line.ends_with(" 0"), "reached: {line}");
        ensure!(
            !line.ends_with(" 28"),
            "hung instead of being refused: {line}"
        );
    }
    Ok(())
}
