use rstest::rstest;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};

use super::*;

struct Server {
    dir: TempDir,
    readiness: Readiness,
    task: JoinHandle<()>,
    port: SocketAddr,
}

impl Server {
    async fn start() -> Server {
        let dir = TempDir::new().unwrap();
        let readiness = Readiness::new();
        let admin = Admin {
            metrics: Metrics::new(),
            readiness: readiness.clone(),
            scrape: Box::new(|| Scraped {
                drops: vec![("fragment", 3)],
                ..Scraped::default()
            }),
        };
        let loopback = Some("127.0.0.1:0".parse().unwrap());
        let path = dir.path().join("admin.sock");
        let listeners = Listeners::bind(&path, loopback).await.unwrap();
        let port = listeners.port().unwrap();
        let task = tokio::spawn(serve(Arc::new(admin), listeners));
        Server {
            dir,
            readiness,
            task,
            port,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    async fn ask(&self, request: &str) -> String {
        let stream = UnixStream::connect(self.path()).await.unwrap();
        exchange(stream, request).await
    }
}

async fn exchange(mut stream: impl Stream, request: &str) -> String {
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn serves_metrics_on_the_socket_and_on_the_loopback_port() {
    let server = Server::start().await;
    let answer = server.ask("GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("ersatz_drops_total{reason=\"fragment\"} 3\n"),
        "{answer}"
    );
    let stream = TcpStream::connect(server.port).await.unwrap();
    assert!(
        exchange(stream, "GET /metrics")
            .await
            .contains("ersatz_build_info")
    );
}

#[rstest]
#[case("GET /livez", "200 OK")]
#[case("GET /", "404 Not Found")]
#[case("GET /debug/pprof", "404 Not Found")]
#[case("GET /metrics/..", "404 Not Found")]
#[case("POST /metrics", "405 Method Not Allowed")]
#[case("DELETE /livez", "405 Method Not Allowed")]
#[tokio::test]
async fn answers(#[case] request: &str, #[case] status: &str) {
    let server = Server::start().await;
    let answer = server.ask(request).await;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
        "{answer}"
    );
}

#[tokio::test]
async fn is_ready_when_every_condition_holds_and_says_what_lacks() {
    let server = Server::start().await;
    let answer = server.ask("GET /readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for condition in Condition::ALL {
        server.readiness.holds(condition);
    }
    let answer = server.ask("GET /readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ")
            && answer.ends_with("{\"lacking\":[],\"ready\":true}\n"),
        "{answer}"
    );
    server
        .readiness
        .lacks(Condition::Config, "policy.yaml:3:1: unknown field");
    let answer = server.ask("GET /readyz").await;
    assert!(
        answer.contains(r#"{"condition":"config","reason":"policy.yaml:3:1: unknown field"}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn bad_requests_do_not_end_it() {
    let server = Server::start().await;
    for garbage in [
        "\0\0\0\0",
        "GET /metrics HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = UnixStream::connect(server.path()).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an answer as a status.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    assert!(server.ask("GET /livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn only_its_owner_can_open_the_socket_and_it_goes_with_the_server() {
    let server = Server::start().await;
    let mode = fs::metadata(server.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.task.abort();
    assert!(server.task.await.unwrap_err().is_cancelled());
    assert!(!server.dir.path().join("admin.sock").exists());
}

#[tokio::test]
async fn takes_the_place_of_a_dead_daemons_socket_and_leaves_a_successors() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("admin.sock");
    let old = Listeners::bind(&path, None).await.unwrap();
    let new = Listeners::bind(&path, None).await.unwrap();
    drop(old);
    assert!(path.exists());
    drop(new);
    assert!(!path.exists());
}

#[rstest]
#[case("0.0.0.0:0")]
#[case("[::]:0")]
#[case("192.0.2.1:0")]
#[tokio::test]
async fn refuses_a_port_that_others_could_reach(#[case] address: &str) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("admin.sock");
    let refused = Listeners::bind(&path, Some(address.parse().unwrap())).await;
    assert!(matches!(refused, Err(AdminError::NotLoopback(_))));
}

#[tokio::test(start_paused = true)]
async fn silent_clients_do_not_keep_others_out() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(UnixStream::connect(server.path()).await.unwrap());
    }
    let answer = server.ask("GET /livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
