//! A git server: git's own `http-backend`, run as CGI (RFC 3875).

use std::process::Stdio;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap},
    http::response,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    body::{self, Outgoing},
    http::Connection,
};

pub(super) async fn serve(
    request: Request<Incoming>,
    connection: &Connection,
) -> Result<Response<Outgoing>> {
    let mut backend = start(&request, connection)?;
    let stdin = backend.stdin.take().context("the backend reads nothing")?;
    let mut stdout = BufReader::new(backend.stdout.take().context("the backend says nothing")?);
    tokio::spawn(feed(request.into_body(), stdin));
    let response = head(&mut stdout).await?;
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stdout.read(&mut buffer).await {
            let data = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            if sender.send(Ok(Frame::data(data))).await.is_err() {
                break;
            }
        }
        let _ = backend.wait().await;
    });
    Ok(response.body(body)?)
}

fn start(request: &Request<Incoming>, connection: &Connection) -> Result<Child> {
    let header = |name: &str| text(request.headers(), name);
    let mut backend = Command::new("git");
    backend
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env(
            "GIT_PROJECT_ROOT",
            connection.world.config.directory.join("repositories"),
        )
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REMOTE_USER", "agent")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("CONTENT_TYPE", header(CONTENT_TYPE.as_str()))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("HTTP_GIT_PROTOCOL", header("git-protocol"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if request.headers().contains_key(CONTENT_LENGTH) {
        backend.env("CONTENT_LENGTH", header(CONTENT_LENGTH.as_str()));
    }
    backend.spawn().context("cannot start git http-backend")
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

async fn feed(mut body: Incoming, mut stdin: ChildStdin) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data()
            && stdin.write_all(&data).await.is_err()
        {
            break;
        }
    }
}

/// Reads the CGI answer's head: headers until an empty line, with the status among them.
async fn head(stdout: &mut BufReader<ChildStdout>) -> Result<response::Builder> {
    let mut response = Response::builder();
    loop {
        let mut line = String::new();
        stdout.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(':').context("not a header")?;
        response = match name.to_ascii_lowercase().as_str() {
            "status" => response.status(value.trim().split(' ').next().unwrap_or_default()),
            _ => response.header(name, value.trim()),
        };
    }
}
