//! A refusal is typed, quick, audited and counted.

use anyhow::{Result, ensure};
use ersatz_tests::rig::{Node, text};

#[test]
fn a_refused_request_says_why() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let cases = [
        (
            "-X POST https://registry.test/packages/x",
            "403",
            "method-not-allowed",
        ),
        ("https://registry.test/private/x", "403", "path-not-allowed"),
        (
            "--path-as-is https://registry.test/packages/../private/x",
            "403",
            "path-ambiguous",
        ),
        (
            "https://registry.test/packages/%2e%2e/private/x",
            "403",
            "path-ambiguous",
        ),
        (
            "https://registry.test/packages/..%2fprivate/x",
            "403",
            "path-ambiguous",
        ),
        (
            "-H 'Host: evil.test' https://registry.test/packages/x",
            "421",
            "authority-mismatch",
        ),
    ];
    for protocol in ["--http1.1", "--http2"] {
        for (arguments, status, reason) in cases {
            let script = format!("curl -sS --max-time 20 {protocol} -D - {arguments}");
            let answer = node.shell(&script)?.success()?;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            ensure!(head.contains(status), "{arguments}: {answer}");
            ensure!(
                head.contains(&format!("x-ersatz-reason: {reason}")),
                "{arguments}: {answer}"
            );
            let body: serde_json::Value = serde_json::from_str(body)?;
            ensure!(text(&body, "error.reason") == reason, "{body}");
            ensure!(text(&body, "error.policy") == "agents", "{body}");
            ensure!(
                text(&body, "error.host").starts_with("registry.test"),
                "{body}"
            );
            ensure!(!text(&body, "error.hint").is_empty(), "{body}");
            let label = format!("reason=\"{reason}\"");
            ensure!(
                daemon.metric("ersatz_requests_total", &[&label])? >= 1,
                "{reason}"
            );
            node.audit_with(|record| text(record, "reason") == reason)?;
        }
    }
    let allowed = node.shell("curl -sS --max-time 20 https://registry.test/packages/a/b")?;
    assert!(allowed.success()?.contains("\"ok\":true"));
    assert_eq!(node.ledger()?.with(&[("kind", "request")]).len(), 1);
    Ok(())
}

#[test]
fn a_refused_name_does_not_exist_and_nobody_is_asked() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let script = r"python3 - <<'END'
import socket
for name in ('evil.test', 'secret-data.evil.test', 'nowhere', 'localhost.evil.test'):
    try:
        print(socket.getaddrinfo(name, 443))
    except socket.gaierror as error:
        print(name, error.errno == socket.EAI_NONAME or error.errno == socket.EAI_NODATA)
END
curl -sS --max-time 20 -o /dev/null https://evil.test/; echo curl $?";
    let answer = node.shell(script)?.success()?;
    assert_eq!(answer.matches(" True").count(), 4, "{answer}");
    assert!(answer.contains("curl 6"), "could not resolve: {answer}");
    assert!(
        node.ledger()?.with(&[("kind", "dns")]).is_empty(),
        "nobody was asked"
    );
    let record = node.audit_with(|record| text(record, "protocol") == "dns")?;
    assert_eq!(text(&record, "verdict"), "deny", "{record}");
    assert!(daemon.metric("ersatz_dns_queries_total", &[r#"verdict="refused""#])? >= 4);
    Ok(())
}

#[test]
fn a_refused_connection_is_reset_at_once() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let script = r"python3 - <<'END'
import socket, time
api = socket.getaddrinfo('api.test', 22, socket.AF_INET)[0][4][0]
six = socket.getaddrinfo('api.test', 22, socket.AF_INET6)[0][4][0]
for address, port in ((api, 22), (six, 22), ('10.213.0.1', 443), ('fdd5:213:1::1', 443), ('10.213.0.5', 25)):
    start = time.time()
    try:
        s = socket.create_connection((address, port), 10)
        s.settimeout(10)
        s.sendall(b'hello\r\n')
        s.recv(10)
        # A close that is in order is no answer either, but it is none of the server's.
        end = 'closed'
    except ConnectionError:
        end = 'reset'
    except OSError as error:
        end = repr(error)
    print(address, port, end, 'quick' if time.time() - start < 2 else 'slow')
END";
    let answer = node.shell(script)?.success()?;
    for line in answer.lines() {
        ensure!(line.ends_with("reset quick"), "{line}");
    }
    assert_eq!(answer.lines().count(), 5, "{answer}");
    assert!(node.ledger()?.with(&[("kind", "tcp")]).is_empty());
    assert!(daemon.metric("ersatz_connections_total", &[r#"verdict="deny""#])? >= 5);
    Ok(())
}

#[test]
fn a_handshake_for_a_name_that_is_not_allowed_fails_and_mints_nothing() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let script = "ip=$(getent ahostsv4 api.test | awk '{print $1; exit}')
        curl -sS --max-time 20 --connect-to ::$ip: -o /dev/null https://evil.test/; echo curl $?
        curl -sS --max-time 20 -k -o /dev/null https://$ip/; echo curl $?";
    let answer = node.shell(script)?;
    assert_eq!(answer.stdout.matches("curl 35").count(), 2, "{answer:?}");
    assert!(daemon.metric("ersatz_mints_total", &[])? == 0);
    node.audit_with(|record| text(record, "reason") == "host-not-allowed")?;
    node.audit_with(|record| text(record, "reason") == "no-server-name")?;
    Ok(())
}

#[test]
fn frames_that_are_neither_tcp_nor_dns_are_dropped_and_counted() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let (_witness, frames) = node.witness()?;
    let script = r"python3 - <<'END'
import socket
for family, address in ((socket.AF_INET, '10.213.0.4'), (socket.AF_INET6, 'fdd5:213:1::4')):
    for port in (443, 123, 4500):
        s = socket.socket(family, socket.SOCK_DGRAM)
        for _ in range(5):
            s.sendto(b'quic?', (address, port))
END";
    node.shell(script)?.success()?;
    ersatz_tests::rig::wait_until(std::time::Duration::from_secs(5), || {
        daemon
            .metric("ersatz_drops_total", &[])
            .ok()
            .filter(|drops| *drops >= 30)
    })?;
    let frames = std::fs::read_to_string(frames)?;
    assert!(!frames.contains("udp"), "{frames}");
    Ok(())
}
