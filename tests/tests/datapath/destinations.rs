//! Traffic that is not decrypted: TLS passed through by name, opaque TCP.

use anyhow::Result;
use ersatz_tests::rig::{Node, text};

#[test]
fn passthrough_leaves_tls_as_it_is() -> Result<()> {
    let node = Node::new()?;
    let daemon = node.daemon()?;
    let script = format!(
        r#"echo $API_TOKEN
        for family in -4 -6; do
          curl $family -sS --max-time 20 --cacert {} -H "Authorization: Bearer $API_TOKEN" https://pass.test/
        done"#,
        node.directory().join("ca.pem").display()
    );
    let answer = node.shell(&script)?.success()?;
    let stub = answer.lines().next().unwrap_or_default();
    assert_eq!(
        answer.matches("\"ok\":true").count(),
        2,
        "the server's own certificate: {answer}"
    );
    let requests = node
        .ledger()?
        .with(&[("kind", "request"), ("sni", "pass.test")]);
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .field("headers")
            .iter()
            .all(|headers| headers.contains(stub)),
        "{requests}"
    );
    let record = node.audit_with(|record| text(record, "authority").starts_with("pass.test"))?;
    assert_eq!(text(&record, "verdict"), "passthrough", "{record}");
    daemon.reaches("ersatz_connections_total", &[r#"verdict="passthrough""#], 2)
}

#[test]
fn opaque_tcp_reaches_the_name_that_was_asked_for() -> Result<()> {
    let node = Node::new()?;
    let _daemon = node.daemon()?;
    let script = r"python3 - <<'END'
import socket
def talk(family, port, first):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(10)
    s.connect(socket.getaddrinfo('db.test', port, family)[0][4])
    greeting = s.recv(100) if first else b''
    s.sendall(b'hello'); s.shutdown(socket.SHUT_WR)
    data = b''
    while chunk := s.recv(100): data += chunk
    return greeting.decode().strip(), data.decode()
for family in (socket.AF_INET, socket.AF_INET6):
    print(talk(family, 5432, False), talk(family, 5433, True))
END";
    let answer = node.shell(script)?.success()?;
    assert_eq!(answer.matches("('', 'hello')").count(), 2, "{answer}");
    assert_eq!(answer.matches("', 'hello')").count(), 4, "{answer}");
    assert!(
        answer.contains("WELCOME 10.213.0.7:5433")
            || answer.contains("WELCOME [fdd5:213:1::7]:5433")
    );
    let record = node.audit_with(|record| text(record, "authority") == "db.test:5433")?;
    assert_eq!(text(&record, "protocol"), "tcp", "{record}");
    Ok(())
}
