//! HTTP as the world's servers speak it: every request is written down, then
//! it is asked for its credential, then it is answered.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use anyhow::Result;
use hyper::{
    Request, Response, StatusCode, Version, body::Incoming, header::HeaderMap, service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use super::{
    World, answers,
    body::{self, Outgoing},
    git, plain, provider,
    recorder::{Recorder, Tape},
};

/// What is known of the connection that a request came by.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) sni: Option<String>,
    pub(super) local: SocketAddr,
    pub(super) tape: Tape,
    pub(super) world: Arc<World>,
}

pub(super) async fn serve_h1<S>(stream: S, connection: Connection) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| respond(request, connection.clone()));
    hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

pub(super) async fn serve_h2<S>(stream: S, connection: Connection) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| respond(request, connection.clone()));
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 22)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// Port 80: where no secret may ever arrive.
pub(super) async fn serve_plain(listener: TcpListener, world: Arc<World>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (id, local) = (world.ledger.connection(), stream.local_addr()?);
        let (stream, tape) = Recorder::new(stream);
        let connection = Connection {
            id,
            sni: None,
            local,
            tape,
            world: Arc::clone(&world),
        };
        tokio::spawn(serve_h1(stream, connection));
    }
}

async fn respond(
    request: Request<Incoming>,
    connection: Connection,
) -> Result<Response<Outgoing>, Infallible> {
    let seen = note(&request, &connection);
    if !authorized(&request, &connection) {
        return Ok(refuse(&connection));
    }
    let answer = if connection.sni.as_deref() == Some("git.test") {
        git::serve(request, &connection).await
    } else if provider::is_provider(connection.sni.as_deref()) {
        provider::serve(request, &connection).await
    } else {
        answers::serve(request, &connection, seen).await
    };
    Ok(answer.unwrap_or_else(|error| {
        let mut response = Response::new(body::full(format!("{error:#}\n")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }))
}

/// Writes the request into the ledger and returns what was written.
fn note(request: &Request<Incoming>, connection: &Connection) -> Value {
    let raw =
        head(request, &connection.tape).map(|head| String::from_utf8_lossy(&head).into_owned());
    let record = json!({
        "connection": connection.id,
        "sni": connection.sni,
        "local": plain::canonical(connection.local).to_string(),
        "version": format!("{:?}", request.version()),
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "authority": request.uri().authority().map(ToString::to_string),
        "headers": headers(request.headers()),
        "raw_head": raw,
    });
    connection.world.ledger.write("request", record.clone());
    record
}

fn head(request: &Request<Incoming>, tape: &Tape) -> Option<Vec<u8>> {
    if request.version() == Version::HTTP_2 {
        return None;
    }
    tape.take_head(&format!("{} {} HTTP/", request.method(), request.uri()))
}

/// Names and values in the order that they came in.
pub(super) fn headers(headers: &HeaderMap) -> Vec<[String; 2]> {
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| [name.to_string(), text(value)])
        .collect()
}

fn authorized(request: &Request<Incoming>, connection: &Connection) -> bool {
    let Some(name) = &connection.sni else {
        return true;
    };
    let Some(accepted) = connection.world.config.accept.get(name) else {
        return true;
    };
    accepted.iter().any(|accepted| {
        let mut values = request.headers().get_all(&accepted.header).iter();
        let only = (values.next(), values.next());
        matches!(only, (Some(value), None) if value == accepted.value.as_str())
    })
}

fn refuse(connection: &Connection) -> Response<Outgoing> {
    let scheme = if connection.sni.as_deref() == Some("git.test") {
        "Basic"
    } else {
        "Bearer"
    };
    let mut response = Response::new(body::full(r#"{"error":"unauthorized"}"#));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = format!("{scheme} realm=\"world\"");
    if let Ok(challenge) = challenge.parse() {
        response.headers_mut().insert("www-authenticate", challenge);
    }
    response
}

/// An error that a body's reader sees as a connection that broke off.
pub(super) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the world breaks off")
}
