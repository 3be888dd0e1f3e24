//! Servers that misbehave: each costs one request, and says whose fault it was.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

/// A server of `localhost` that does the same with each connection, and a rig that may reach it.
struct Server {
    rig: Rig,
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Reads a head, then writes each of the answers in turn; reads on and says nothing after that.
    async fn start(limits: Limits, scheme: &str, answers: &'static [&'static str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::<AtomicUsize>::default();
        let count = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                tokio::spawn(converse(stream, answers));
            }
        });
        let policy = format!(
            "{{apiVersion: ersatz.dev/v1alpha1, kind: EgressPolicy, metadata: {{name: p}}, \
             spec: {{allow: [{{hosts: [localhost], scheme: {scheme}, ports: [{port}]}}]}}}}"
        );
        let rig = Rig::with(limits, &policy).await;
        Server {
            rig,
            port,
            accepted,
        }
    }

    async fn ask(&self, head: &str) -> String {
        let (mut client, serving) = self.rig.dial("localhost", self.port).await;
        let head = head.replace("HOST", &format!("localhost:{}", self.port));
        let answer = ask(&mut client, &head).await;
        in_time(serving).await.unwrap();
        answer
    }
}

async fn converse(mut stream: TcpStream, answers: &[&str]) {
    let mut seen = Vec::new();
    for answer in answers {
        while !seen.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.clear();
        // A proxy that has heard enough may be gone.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
    let _ = stream.read_to_end(&mut seen).await;
}

const GET: &str = "GET / HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn short() -> Limits {
    Limits {
        idle_timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_connection_to_a_server_is_used_again() {
    let server = Server::start(Limits::default(), "http", &[OK, OK, OK]).await;
    for _ in 0..3 {
        let answer = server.ask(GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );
    }
    assert_eq!(server.accepted.load(Relaxed), 1);
    assert_eq!(server.rig.reasons().await, ["", "", ""]);
    assert!(
        server
            .rig
            .metric(r#"ersatz_upstream_connections_total{result="ok"} 1"#)
    );
    assert_eq!(server.rig.sandbox.idle_upstreams(), 1);
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up() {
    let server = Server::start(short(), "http", &[]).await;
    let answer = server.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(server.rig.reasons().await, ["upstream-timeout"]);
}

#[tokio::test]
async fn a_server_that_does_not_shake_hands_is_given_up() {
    let server = Server::start(short(), "https", &[]).await;
    let mut client = server
        .rig
        .dial_tls("localhost", server.port, crate::tls::ALPN_H1)
        .await;
    let answer = ask(
        &mut client,
        &GET.replace("HOST", &format!("localhost:{}", server.port)),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert_eq!(server.rig.reasons().await, ["upstream-timeout"]);
    assert!(
        server
            .rig
            .metric(r#"ersatz_upstream_connections_total{result="timeout"} 1"#)
    );
}

#[rstest::rstest]
#[case::switches_without_being_asked(&["HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfree bytes"])]
#[case::is_no_http(&["SSH-2.0-OpenSSH\r\n"])]
#[case::two_lengths(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"])]
#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_not_believed(
    #[case] answers: &'static [&'static str],
) {
    let server = Server::start(Limits::default(), "http", answers).await;
    let answer = server.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("x-ersatz-reason: upstream-protocol\r\n"),
        "{answer}"
    );
    assert_eq!(server.rig.reasons().await, ["upstream-protocol"]);
    assert_eq!(server.rig.sandbox.idle_upstreams(), 0);
}

/// An answer that nobody asked for behind one that was.
const TWO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\
                   HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";

#[tokio::test]
async fn what_a_server_says_unasked_reaches_nobody() {
    let server = Server::start(Limits::default(), "http", &[TWO, OK]).await;
    for _ in 0..3 {
        let answer = server.ask(GET).await;
        assert!(!answer.contains("poison"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_with_too_large_a_head_is_refused() {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n",
        "a".repeat(256 << 10)
    );
    let answers = Box::leak(Box::new([&*head.leak()]));
    let server = Server::start(Limits::default(), "http", answers).await;
    let answer = server.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(server.rig.reasons().await, ["upstream-protocol"]);
}
