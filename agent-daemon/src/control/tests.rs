//! The two ends of the control socket against each other, and one end against nonsense.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::enrol::SecretText;

/// A daemon that enrols whatever has a descriptor, and tells what it is asked.
struct Fake {
    asked: mpsc::UnboundedSender<EnrolRequest>,
    held: Arc<AtomicUsize>,
    ended: mpsc::UnboundedSender<()>,
}

struct Held(Arc<AtomicUsize>, mpsc::UnboundedSender<()>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
        let _ = self.1.send(());
    }
}

impl Enrol for Fake {
    type Handle = Held;

    async fn enrol(
        &self,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> Result<(Held, Enrolled), Refusal> {
        if request.name == "refused" {
            let (reason, message) = ("policy".to_owned(), "no such policy".to_owned());
            return Err(Refusal { reason, message });
        }
        assert!(
            File::from(netns)
                .metadata()
                .is_ok_and(|file| file.ino() > 0)
        );
        let _ = self.asked.send(request);
        self.held.fetch_add(1, SeqCst);
        let enrolled = Enrolled {
            env: [("TOKEN".to_owned(), "stub".to_owned())].into(),
            stubs: [("github".to_owned(), "stub".to_owned())].into(),
            ca_pem: "ca".to_owned(),
            resolver: IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
            hidden: Vec::new(),
        };
        Ok((Held(self.held.clone(), self.ended.clone()), enrolled))
    }

    fn refused(_: &Held) -> Vec<Refused> {
        let (reason, target) = ("host-not-allowed".to_owned(), "evil.example".to_owned());
        vec![Refused {
            reason,
            target,
            count: 3,
        }]
    }
}

/// A served socket.
struct Served {
    path: PathBuf,
    _directory: tempfile::TempDir,
    server: JoinHandle<()>,
    asked: mpsc::UnboundedReceiver<EnrolRequest>,
    ended: mpsc::UnboundedReceiver<()>,
    held: Arc<AtomicUsize>,
    fake: Arc<Fake>,
}

impl Served {
    fn start() -> Served {
        Served::with_bound(64)
    }

    fn with_bound(bound: usize) -> Served {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sock");
        let (asked_sender, asked) = mpsc::unbounded_channel();
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let held = Arc::new(AtomicUsize::new(0));
        let fake = Arc::new(Fake {
            asked: asked_sender,
            held: held.clone(),
            ended: ended_sender,
        });
        let server = tokio::spawn(server::serve_at_most(
            bound,
            fake.clone(),
            bind(&path).expect("bound"),
        ));
        Served {
            path,
            _directory: directory,
            server,
            asked,
            ended,
            held,
            fake,
        }
    }

    async fn enrol(&self, name: &str) -> Result<(Lease, Enrolled), ControlError> {
        let client = Client::connect(&self.path).await?;
        client.enrol(request(name), netns()).await
    }
}

fn request(name: &str) -> EnrolRequest {
    let env = [(
        "SECRET".to_owned(),
        SecretText(zeroize::Zeroizing::new("real".to_owned())),
    )]
    .into();
    EnrolRequest {
        name: name.to_owned(),
        policy: None,
        resources: None,
        env,
        stubs: [].into(),
    }
}

fn netns() -> OwnedFd {
    File::open("/proc/self/ns/net")
        .expect("there is always one")
        .into()
}

async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), event)
        .await
        .expect("it happens soon")
}

#[tokio::test]
async fn a_sandbox_is_enrolled_as_long_as_its_lease_is_held() {
    let mut served = Served::start();
    let (lease, enrolled) = served.enrol("one").await.expect("enrolled");
    assert_eq!(enrolled.env.get("TOKEN").map(String::as_str), Some("stub"));
    let asked = soon(served.asked.recv()).await.expect("asked");
    assert_eq!(
        asked.env.get("SECRET").map(|secret| secret.0.as_str()),
        Some("real")
    );
    assert_eq!(served.held.load(SeqCst), 1);
    drop(lease);
    soon(served.ended.recv()).await.expect("un-enrolled");
    assert_eq!(served.held.load(SeqCst), 0);
}

#[tokio::test]
async fn a_lease_that_ends_in_order_is_told_what_was_refused() {
    let mut served = Served::start();
    let (lease, _) = served.enrol("one").await.expect("enrolled");
    let refused = soon(lease.end()).await;
    assert_eq!(refused.first().map(|one| one.count), Some(3));
    soon(served.ended.recv()).await.expect("un-enrolled");
}

#[tokio::test]
async fn a_new_daemon_gets_the_sandbox_with_its_stubs() {
    let mut served = Served::start();
    let (_lease, _) = served.enrol("one").await.expect("enrolled");
    soon(served.asked.recv()).await.expect("asked");
    served.server.abort();
    soon(served.ended.recv())
        .await
        .expect("the old daemon is gone");
    let listener = bind(&served.path).expect("bound again");
    let again = tokio::spawn(serve(served.fake.clone(), listener));
    let asked = soon(served.asked.recv()).await.expect("enrolled again");
    assert_eq!(asked.stubs.get("github").map(String::as_str), Some("stub"));
    again.abort();
}

#[tokio::test]
async fn a_refusal_says_why() {
    let served = Served::start();
    match served.enrol("refused").await {
        Err(ControlError::Refused(refusal)) => assert_eq!(refusal.reason, "policy"),
        _ => panic!("not refused"),
    }
}

#[tokio::test]
async fn no_daemon_is_an_error_that_names_the_socket() {
    let error = Client::connect("/nonexistent/sock".as_ref())
        .await
        .err()
        .expect("nobody there");
    assert_eq!(error.to_string(), "cannot connect to /nonexistent/sock");
}

#[tokio::test]
async fn only_root_may_open_the_socket() {
    let served = Served::start();
    let mode = std::fs::metadata(&served.path).expect("bound").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[rstest]
#[case::nothing(b"")]
#[case::half_a_header(b"\0\0")]
#[case::zero(b"\0\0\0\0")]
#[case::beyond_the_bound(b"\x7f\xff\xff\xff{}")]
#[case::half_a_body(b"\0\0\0\x10{")]
#[case::no_json(b"\0\0\0\x04{{{{")]
#[case::other_json(b"\0\0\0\x02{}")]
#[case::another_version(
    br#"    {"version":2,"enrol":{"name":"x","policy":null,"resources":null,"env":{},"stubs":{}}}"#
)]
#[case::no_namespace(
    br#"    {"version":1,"enrol":{"name":"x","policy":null,"resources":null,"env":{},"stubs":{}}}"#
)]
#[tokio::test]
async fn nonsense_is_refused_and_ends_nothing_but_its_connection(#[case] sent: &[u8]) {
    let served = Served::start();
    let mut sent = sent.to_vec();
    if sent.starts_with(b"    ") {
        let length = u32::try_from(sent.len() - 4).expect("short");
        sent.splice(0..4, length.to_be_bytes());
    }
    let mut stream = UnixStream::connect(&served.path).await.expect("connected");
    stream.write_all(&sent).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer))
        .await
        .expect("closed by the daemon");
    let answer = String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned();
    assert!(answer.starts_with(r#"{"refused":{"reason":""#), "{answer}");
    served.enrol("two").await.expect("the daemon still serves");
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_at_once() {
    let served = Served::with_bound(1);
    let (lease, _) = served.enrol("one").await.expect("enrolled");
    let mut second = UnixStream::connect(&served.path).await.expect("connected");
    let mut answer = Vec::new();
    soon(second.read_to_end(&mut answer)).await.expect("closed");
    assert!(answer.is_empty());
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_is_refused_in_time() {
    let served = Served::start();
    let start = tokio::time::Instant::now();
    let mut stream = UnixStream::connect(&served.path).await.expect("connected");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("closed");
    assert!(String::from_utf8_lossy(&answer).contains("no request came in time"));
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_malformed_is_not_repeated() {
    let served = Served::start();
    let mut stream = UnixStream::connect(&served.path).await.expect("connected");
    let body = br#"{"version":1,"enrol":"the-secret"}"#;
    stream
        .write_all(&u32::try_from(body.len()).expect("short").to_be_bytes())
        .await
        .expect("sent");
    stream.write_all(body).await.expect("sent");
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer))
        .await
        .expect("closed by the daemon");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.contains("malformed") && !answer.contains("the-secret"),
        "{answer}"
    );
}
