//! Probes: single requests in which every part of the authority is chosen apart.
//!
//! A case names the host to dial, the SNI, the `Host` field or `:authority`,
//! the form of the target and the port; what came back is reported, never
//! judged: judging is the scenario's.

use std::{net::ToSocketAddrs as _, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{cut::Cut, tls};

/// Longer than any refusal may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer that are looked at.
const ANSWER: u64 = 64 * 1024;

/// One request to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// The name that is resolved and dialled; an address is dialled as it is.
    pub dial: String,
    /// The port that is dialled.
    pub port: u16,
    /// The name in the TLS hello: `None` for a hello without one, and for
    /// plaintext when `plain` is set.
    pub sni: Option<String>,
    /// No TLS at all.
    #[serde(default)]
    pub plain: bool,
    /// What is sent, and how.
    pub message: Message,
    /// Where the first bytes of the connection are cut into two segments.
    #[serde(default)]
    pub cut: Option<usize>,
    /// The largest TLS record that is sent, so that a hello takes many.
    #[serde(default)]
    pub fragment: Option<usize>,
}

/// A request in the words of its protocol.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Bytes of HTTP/1.1, sent as they are.
    H1(String),
    /// A request over HTTP/2.
    H2 {
        /// The method.
        method: String,
        /// `:scheme`, `:authority` and `:path` as one URI.
        uri: String,
        /// The other fields.
        headers: Vec<(String, String)>,
    },
    /// Any bytes.
    Raw(Vec<u8>),
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// The status, when there was one.
    pub status: Option<u16>,
    /// `x-ersatz-reason`, when the daemon itself answered.
    pub reason: Option<String>,
    /// The whole answer, as text.
    pub answer: String,
    /// Why there was none: the stage and the error.
    pub error: Option<String>,
    /// Milliseconds from the dial to the end.
    pub took_ms: u64,
}

/// Makes the requests one after another.
pub async fn run(cases: &[Case]) -> Result<Vec<Seen>> {
    let configs = Configs {
        h1: tls::config(&["http/1.1"])?,
        h2: tls::config(&["h2"])?,
    };
    let mut seen = Vec::with_capacity(cases.len());
    for case in cases {
        let started = std::time::Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, attempt(case, &configs)).await;
        let mut result = match outcome {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Seen::failed(format!("{error:#}")),
            Err(_) => Seen::failed("hang".into()),
        };
        result.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        seen.push(result);
    }
    Ok(seen)
}

struct Configs {
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
}

impl Seen {
    fn failed(error: String) -> Self {
        Self {
            status: None,
            reason: None,
            answer: String::new(),
            error: Some(error),
            took_ms: 0,
        }
    }

    fn answered(status: Option<u16>, reason: Option<String>, answer: String) -> Self {
        Self {
            status,
            reason,
            answer,
            error: None,
            took_ms: 0,
        }
    }
}

async fn attempt(case: &Case, configs: &Configs) -> Result<Seen> {
    let address = (case.dial.trim_matches(['[', ']']), case.port)
        .to_socket_addrs()
        .context("resolve")?
        .next()
        .context("resolve: no address")?;
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let stream = Cut::new(stream, case.cut);
    if case.plain {
        return exchange(stream, &case.message).await;
    }
    match &case.message {
        Message::H2 {
            method,
            uri,
            headers,
        } => {
            let stream = handshake(stream, case, &configs.h2)
                .await
                .context("handshake")?;
            exchange_h2(stream, method, uri, headers).await
        }
        message => {
            let stream = handshake(stream, case, &configs.h1)
                .await
                .context("handshake")?;
            exchange(stream, message).await
        }
    }
}

async fn handshake(stream: Cut, case: &Case, config: &Arc<ClientConfig>) -> Result<TlsStream<Cut>> {
    let name = match &case.sni {
        Some(name) => ServerName::try_from(name.clone())?,
        // An address as the name makes a hello without SNI.
        None => ServerName::from(stream.peer()?),
    };
    let mut config = Arc::clone(config);
    if case.fragment.is_some() {
        Arc::make_mut(&mut config).max_fragment_size = case.fragment;
    }
    Ok(TlsConnector::from(config).connect(name, stream).await?)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    message: &Message,
) -> Result<Seen> {
    let bytes = match message {
        Message::H1(text) => text.as_bytes(),
        Message::Raw(bytes) => bytes,
        Message::H2 { .. } => anyhow::bail!("HTTP/2 needs TLS here"),
    };
    stream.write_all(bytes).await.context("send")?;
    let mut answer = Vec::new();
    // A peer that closes without TLS's farewell has answered all the same.
    let received = stream.take(ANSWER).read_to_end(&mut answer).await;
    if answer.is_empty() {
        received.context("receive")?;
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Seen::answered(
        status,
        field(&text, "x-ersatz-reason"),
        text,
    ))
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
}

async fn exchange_h2(
    stream: TlsStream<Cut>,
    method: &str,
    uri: &str,
    headers: &[(String, String)],
) -> Result<Seen> {
    let (sender, connection) = h2::client::handshake(stream).await.context("HTTP/2")?;
    let driver = tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(method)
        .uri(uri)
        .version(http::Version::HTTP_2);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut sender = sender.ready().await?;
    let (response, _) = sender
        .send_request(request.body(())?, true)
        .context("send")?;
    let response = response.await.context("receive")?;
    let status = response.status().as_u16();
    let reason = response.headers().get("x-ersatz-reason");
    let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
    let answer = body(response.into_body()).await.unwrap_or_default();
    drop(sender);
    driver.abort();
    Ok(Seen::answered(Some(status), reason, answer))
}

async fn body(mut body: h2::RecvStream) -> Result<String> {
    let mut bytes: Vec<Bytes> = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.push(data);
    }
    Ok(String::from_utf8_lossy(&bytes.concat()).into_owned())
}
