//! Connections from their first byte, over loopback, as the gate hands them over.

use std::{future::Future, time::Duration};

use ersatz_api::{Limits, Resources};
use ersatz_policy::{Cidr, Name};
use ersatz_steering::SandboxId;
use rustls::pki_types::{ServerName, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::{
    audit::{self, Audit, SandboxTag, Subject},
    inject::Stubs,
    metrics::{Metrics, Scraped},
    resolve::{Resolver, SandboxKey},
    sandboxes::Sandboxes,
    secrets::{EnvValues, Secrets},
    sink,
    tls::{Ca, Leaves, Trust, UpstreamTls},
    upstream::{Dialer, Dialing},
    vet::Vet,
};

mod framing;
mod upstream;

const POLICY: &str = r#"
apiVersion: ersatz.dev/v1alpha1
kind: EgressPolicy
metadata: {name: limits}
spec:
  allow:
  - {hosts: [secure.test], http: [{methods: [GET], paths: ["/allowed"]}]}
  - {hosts: [plain.test], scheme: http, http: [{methods: [GET], paths: ["/allowed"]}]}
"#;

/// A sandbox, and a daemon whose only servers are those of `localhost`.
struct Rig {
    node: Arc<Node>,
    sandbox: Arc<Sandbox>,
    ca: Arc<Ca>,
    dir: TempDir,
}

impl Rig {
    async fn new(limits: Limits) -> Rig {
        Rig::with(limits, POLICY).await
    }

    async fn with(limits: Limits, policy: &str) -> Rig {
        let dir = TempDir::new().unwrap();
        let file = sink::Target::File(dir.path().join("audit"));
        let metrics = Metrics::new();
        let node = Arc::new(Node {
            sandboxes: Sandboxes::default(),
            audit: Audit::open(audit::Target::To(file)).unwrap(),
            metrics: metrics.clone(),
            limits,
            places: Arc::new(Semaphore::new(limits.connections as usize)),
        });
        let ca = Arc::new(Ca::generate().unwrap());
        let nowhere = vec!["127.0.0.1:1".parse().unwrap()];
        let dialer = Dialer::new(
            Resolver::new(nowhere),
            Vet::new([Cidr::parse("127.0.0.0/8").unwrap()]),
            limits.connect_timeout,
            metrics,
        );
        let dialing = Dialing {
            dialer: Arc::new(dialer),
            sandbox: SandboxKey(1),
            tls: UpstreamTls::new(&Trust::load(true, &[]).unwrap()),
        };
        let resources = Resources::parse("p.yaml", policy).unwrap();
        let (policy, _) = resources.policy(None).unwrap();
        let bound = Bound {
            generation: 1,
            policy,
            stubs: Stubs::new(Vec::new()),
            secrets: Secrets::load([], EnvValues::default()).await,
        };
        let sandbox = Arc::new(Sandbox::new(
            SandboxId::from_parts(0, 1),
            SandboxTag::new(&Subject::default()),
            bound,
            Leaves::new(ca.clone()).unwrap(),
            Arc::new(dialing),
            1,
            limits.connections_per_sandbox as usize,
        ));
        Rig {
            node,
            sandbox,
            ca,
            dir,
        }
    }

    /// A connection of the sandbox to `name`.
    async fn dial(&self, name: &str, port: u16) -> (TcpStream, JoinHandle<()>) {
        let name = Name::parse(name.as_bytes()).unwrap();
        let (address, _) = self.sandbox.names.assign(&name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let accepted = Accepted {
            tcp: listener.accept().await.unwrap().0,
            sandbox: self.sandbox.clone(),
            dialled: (address, port).into(),
            worker: 0,
        };
        let serving = tokio::spawn(serve_connection(self.node.clone(), accepted));
        (client, serving)
    }

    /// The same over TLS, with the one ALPN protocol.
    async fn dial_tls(&self, name: &str, port: u16, alpn: &[u8]) -> client::TlsStream<TcpStream> {
        let (tcp, _) = self.dial(name, port).await;
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.ca.pem();
        let root = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.unwrap()
    }

    /// The reasons of all records so far.
    async fn reasons(&self) -> Vec<String> {
        self.node.audit.flush().await;
        let text = std::fs::read_to_string(self.dir.path().join("audit")).unwrap();
        let reason = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["reason"].as_str().unwrap_or_default().to_owned()
        };
        text.lines().map(reason).collect()
    }

    fn metric(&self, line: &str) -> bool {
        let text = self.node.metrics.encode(&Scraped::default());
        text.lines().any(|found| found == line)
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_mins(2), what).await.unwrap()
}

/// All that still comes; empty where the connection was reset.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = in_time(stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str) -> String {
    // What comes back matters even when not all was taken.
    let _ = stream.write_all(head.as_bytes()).await;
    rest(stream).await
}

#[tokio::test]
async fn connections_beyond_the_bound_are_reset() {
    let limits = Limits {
        connections_per_sandbox: 2,
        ..Limits::default()
    };
    let rig = Rig::new(limits).await;
    let (_first, _) = rig.dial("plain.test", 80).await;
    let (_second, _) = rig.dial("plain.test", 80).await;
    tokio::task::yield_now().await;
    let (mut third, serving) = rig.dial("plain.test", 80).await;
    in_time(serving).await.unwrap();
    assert!(third.read(&mut [0]).await.is_err());
    assert_eq!(rig.reasons().await, ["overloaded"]);
    assert!(rig.metric(
        r#"ersatz_connections_total{protocol="tcp",verdict="deny",reason="overloaded"} 1"#
    ));
}

#[tokio::test]
async fn connections_beyond_the_nodes_bound_are_reset() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let rig = Rig::new(limits).await;
    let (_first, _) = rig.dial("plain.test", 80).await;
    tokio::task::yield_now().await;
    let (_second, serving) = rig.dial("plain.test", 80).await;
    in_time(serving).await.unwrap();
    assert_eq!(rig.reasons().await, ["overloaded"]);
}

#[tokio::test]
async fn a_place_is_free_again_when_a_connection_has_ended() {
    let limits = Limits {
        connections_per_sandbox: 1,
        ..Limits::default()
    };
    let rig = Rig::new(limits).await;
    for _ in 0..3 {
        let (client, serving) = rig.dial("plain.test", 80).await;
        drop(client);
        in_time(serving).await.unwrap();
    }
    assert!(!rig.reasons().await.contains(&"overloaded".to_owned()));
}

#[rstest::rstest]
#[case::says_nothing(b"")]
#[case::begins_a_method(b"GE")]
#[case::begins_a_hello(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")]
#[tokio::test]
async fn a_client_that_does_not_get_on_is_closed(#[case] said: &[u8]) {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let rig = Rig::new(limits).await;
    let (mut client, serving) = rig.dial("secure.test", 443).await;
    client.write_all(said).await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    in_time(serving).await.unwrap();
    assert_eq!(rig.reasons().await, ["timeout"]);
}

#[tokio::test]
async fn a_hello_that_is_too_long_is_refused() {
    let rig = Rig::new(Limits::default()).await;
    let (mut client, serving) = rig.dial("secure.test", 443).await;
    // A ClientHello that says it has 16 MiB, in records of 16 KiB.
    let record = [&[0x16, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let mut hello = record.clone();
    hello[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    for record in std::iter::once(&hello).chain(std::iter::repeat_n(&record, 64)) {
        if client.write_all(record).await.is_err() {
            break;
        }
    }
    in_time(serving).await.unwrap();
    assert_eq!(rig.reasons().await, ["tls-handshake"]);
}

#[rstest::rstest]
#[case::fields(format!("GET /allowed HTTP/1.1\r\nhost: plain.test\r\n{}\r\n", "a: b\r\n".repeat(200)))]
#[case::octets(format!("GET /allowed HTTP/1.1\r\nhost: plain.test\r\na: {}\r\n\r\n", "b".repeat(80 << 10)))]
#[tokio::test]
async fn a_head_that_is_too_large_is_refused(#[case] head: String) {
    let rig = Rig::new(Limits::default()).await;
    let (mut client, serving) = rig.dial("plain.test", 80).await;
    let answer = ask(&mut client, &head).await;
    in_time(serving).await.unwrap();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert_eq!(rig.reasons().await, ["request-too-large"]);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_ends_the_connection() {
    let rig = Rig::new(Limits::default()).await;
    let (mut client, serving) = rig.dial("plain.test", 80).await;
    let answer = ask(&mut client, "GET /allowed HTTP/1.1\r\nhost: pl").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    in_time(serving).await.unwrap();
}

#[tokio::test]
async fn a_refused_request_is_answered_recorded_and_counted() {
    let rig = Rig::new(Limits::default()).await;
    let mut client = rig.dial_tls("secure.test", 443, crate::tls::ALPN_H1).await;
    let head = "GET /other?token=canary HTTP/1.1\r\nhost: secure.test\r\nconnection: close\r\n\r\n";
    let answer = ask(&mut client, head).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.contains("x-ersatz-reason: path-not-allowed\r\n"),
        "{answer}"
    );
    assert_eq!(rig.reasons().await, ["path-not-allowed"]);
    assert!(rig.metric(r#"ersatz_requests_total{verdict="deny",reason="path-not-allowed"} 1"#));
    assert!(rig.metric(r#"ersatz_handshakes_total{result="ok"} 1"#));
    let records = std::fs::read_to_string(rig.dir.path().join("audit")).unwrap();
    assert!(!records.contains("canary"), "{records}");
}

#[tokio::test]
async fn http2_announces_its_bounds_and_ends_floods_of_resets() {
    let rig = Rig::new(Limits::default()).await;
    let stream = rig.dial_tls("secure.test", 443, crate::tls::ALPN_H2).await;
    let (mut sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let request = || {
        let uri = "https://secure.test/other";
        http::Request::get(uri).body(()).unwrap()
    };
    let flood = async {
        sender = sender.ready().await?;
        let (first, _) = sender.send_request(request(), true)?;
        assert_eq!(first.await?.status(), 403);
        for _ in 0..10_000 {
            sender = sender.ready().await?;
            let (answer, mut stream) = sender.send_request(request(), true)?;
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
            tokio::task::yield_now().await;
        }
        Ok::<_, h2::Error>(())
    };
    let ended = tokio::select! {
        ended = flood => ended,
        ended = &mut connection => ended,
    };
    assert_eq!(connection.max_concurrent_send_streams(), 128);
    let error = ended.expect_err("the flood is not ended");
    let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    // The connection may be gone before the frame that says why is read.
    assert!(calm || error.is_io(), "{error}");
}

#[tokio::test]
async fn http2_that_answers_no_ping_is_closed() {
    let rig = Rig::new(Limits::default()).await;
    let mut stream = rig.dial_tls("secure.test", 443, crate::tls::ALPN_H2).await;
    // The preface and empty settings (RFC 9113 §3.4), and then silence.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(hello).await.unwrap();
    stream.read_u8().await.unwrap();
    time::pause();
    let begin = Instant::now();
    let mut said = Vec::new();
    // Closed in whatever way: what counts is that it is.
    let _ = stream.read_to_end(&mut said).await;
    let pinged = said.windows(5).any(|frame| frame == [0, 0, 8, 6, 0]);
    assert!(pinged, "{said:?}");
    assert_eq!((begin.elapsed().as_secs() + 1) / 10 * 10, 80);
}
