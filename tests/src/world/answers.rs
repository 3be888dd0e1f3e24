//! What the servers answer, by path.
//!
//! | path | answer |
//! |---|---|
//! | `/sse?n=&every_ms=` | server-sent events with the time they left |
//! | `/upload` | length and SHA-256 of the body |
//! | `/download?bytes=` | that many bytes, of known length; `&chunked=1`: of unknown |
//! | `/stream` | the body, as it comes |
//! | `/ws` | a WebSocket that echoes |
//! | `/trailers` | a body with trailers |
//! | `/redirect?to=` | 302 |
//! | `/reflect` | the request's headers, credentials and all |
//! | `/status/NNN` | that status |
//! | `/breakoff?after=` | a body that ends before its time |
//! | `/slow?ms=` | a late answer |
//! | anything else | what was seen of the request, without credentials |

use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};
use serde_json::{Value, json};

use super::{
    body::{self, Outgoing, Pattern},
    http::{self, Connection, broken},
    ledger::now_us,
    websocket,
};

pub(super) async fn serve(
    request: Request<Incoming>,
    connection: &Connection,
    seen: Value,
) -> Result<Response<Outgoing>> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/sse" => Ok(events(&request)),
        "/upload" => upload(request, connection).await,
        "/download" => Ok(download(&request)),
        "/stream" => Ok(stream(request)),
        "/ws" => websocket::accept(request),
        "/trailers" => Ok(trailers()),
        "/redirect" => redirect(&request),
        "/reflect" => json_answer(&json!({ "headers": http::headers(request.headers()) })),
        "/breakoff" => Ok(break_off(&request)),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number(&request, "ms", 1000))).await;
            json_answer(&json!({ "late": true }))
        }
        _ => match path.strip_prefix("/status/") {
            Some(status) => {
                let mut response = Response::new(body::full("as you wish\n"));
                *response.status_mut() = StatusCode::from_bytes(status.as_bytes())?;
                Ok(response)
            }
            None => echo(request, connection, seen).await,
        },
    }
}

async fn echo(
    request: Request<Incoming>,
    connection: &Connection,
    mut seen: Value,
) -> Result<Response<Outgoing>> {
    let collected = request.into_body().collect().await?;
    let trailers = collected.trailers().map(http::headers);
    let bytes = collected.to_bytes();
    if !bytes.is_empty() || trailers.is_some() {
        let text = String::from_utf8_lossy(&bytes);
        connection.world.ledger.write(
            "body",
            json!({ "connection": connection.id, "bytes": bytes.len(), "text": text, "trailers": trailers }),
        );
    }
    let fields = seen.as_object_mut().context("a record is an object")?;
    fields.remove("raw_head");
    fields.remove("headers");
    fields.insert("body_bytes".into(), json!(bytes.len()));
    fields.insert("trailers".into(), json!(trailers));
    fields.insert("ok".into(), json!(true));
    json_answer(&seen)
}

async fn upload(request: Request<Incoming>, connection: &Connection) -> Result<Response<Outgoing>> {
    let mut body = request.into_body();
    let mut context = digest::Context::new(&digest::SHA256);
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            length += data.len() as u64;
            context.update(&data);
        }
    }
    let record = json!({ "connection": connection.id, "bytes": length, "sha256": hex(context.finish().as_ref()) });
    connection.world.ledger.write("body", record.clone());
    json_answer(&record)
}

fn download(request: &Request<Incoming>) -> Response<Outgoing> {
    let pattern = Pattern::of(number(request, "bytes", 1024));
    if number(request, "chunked", 0) == 0 {
        return Response::new(pattern.boxed_unsync());
    }
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        let mut pattern = pattern;
        while let Some(frame) = pattern.frame().await {
            if sender.send(frame).await.is_err() {
                break;
            }
        }
    });
    Response::new(body)
}

fn stream(request: Request<Incoming>) -> Response<Outgoing> {
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        let mut incoming = request.into_body();
        while let Some(frame) = incoming.frame().await {
            if sender.send(frame.map_err(|_| broken())).await.is_err() {
                break;
            }
        }
    });
    Response::new(body)
}

fn events(request: &Request<Incoming>) -> Response<Outgoing> {
    let count = number(request, "n", 10);
    let pause = Duration::from_millis(number(request, "every_ms", 100));
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        for event in 0..count {
            let data = format!("id: {event}\ndata: {{\"sent_us\": {}}}\n\n", now_us());
            if sender
                .send(Ok(Frame::data(Bytes::from(data))))
                .await
                .is_err()
            {
                break;
            }
            tokio::time::sleep(pause).await;
        }
    });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn trailers() -> Response<Outgoing> {
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("all-good"));
        let _ = sender
            .send(Ok(Frame::data(Bytes::from_static(b"body\n"))))
            .await;
        let _ = sender.send(Ok(Frame::trailers(trailers))).await;
    });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("trailer", HeaderValue::from_static("x-checksum"));
    response
}

fn redirect(request: &Request<Incoming>) -> Result<Response<Outgoing>> {
    let target = query(request, "to").context("no target")?;
    let mut response = Response::new(body::full("elsewhere\n"));
    *response.status_mut() = StatusCode::FOUND;
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_str(target)?);
    Ok(response)
}

fn break_off(request: &Request<Incoming>) -> Response<Outgoing> {
    let after = usize::try_from(number(request, "after", 10)).unwrap_or(10);
    let (sender, body) = body::channel();
    tokio::spawn(async move {
        let _ = sender
            .send(Ok(Frame::data(Bytes::from(vec![b'.'; after]))))
            .await;
        // The bytes are on their way before the connection is torn down.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = sender.send(Err(broken())).await;
    });
    Response::new(body)
}

fn json_answer(value: &Value) -> Result<Response<Outgoing>> {
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(body::full(format!("{value}\n")))?)
}

fn number(request: &Request<Incoming>, name: &str, default: u64) -> u64 {
    query(request, name)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn query<'r>(request: &'r Request<Incoming>, name: &str) -> Option<&'r str> {
    let pairs = request.uri().query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
