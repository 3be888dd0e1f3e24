//! The stages of a request, in order: authority, policy, injection, forwarding, answer.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use ersatz_policy::{Authority, Host, InterceptPermit};
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode, Uri, request::Parts, uri::Scheme};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    Exchange, Outgoing, Reply,
    answer::Refusal,
    authority::{self, AuthorityError},
    fields, upgrade,
};
use crate::{
    inject,
    node::Node,
    sandboxes::{Bound, Sandbox},
    tls::Version,
    upstream::{Answer, Pool, Transport, UpstreamError},
};

/// Bytes of an HTTP/2 request head that are taken at most. Of HTTP/1.1 the library takes 100
/// fields.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// HTTP/1.1 read and write buffers grow up to this; it also bounds a head.
const MAX_BUFFER: usize = 64 * 1024;
/// Largest HTTP/2 frame taken: uploads cost less in larger ones.
const MAX_FRAME: u32 = 64 * 1024;
/// A head that is not there after this ends the connection; idle ones too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 flow control: bytes under way on one stream, and on one connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that one HTTP/2 connection of a sandbox may have open.
const MAX_STREAMS: u32 = 128;
/// Streams reset by the peer and not yet noticed (CVE-2023-44487), and resets that we were made
/// to send (CVE-2025-8671), before the connection is ended.
const MAX_PENDING_RESETS: usize = 20;
const MAX_OWN_RESETS: usize = 64;
/// A silent HTTP/2 client is asked whether it still lives, and given up when it says nothing.
const PING_AFTER: Duration = Duration::from_mins(1);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// One connection of a sandbox, as long as it speaks HTTP.
pub(crate) struct Session {
    pub(crate) node: Arc<Node>,
    pub(crate) sandbox: Arc<Sandbox>,
    /// The worker that the connection lives on.
    pub(crate) worker: usize,
    pub(crate) route: Route,
    pub(crate) version: Version,
    /// The TLS version that was agreed with the sandbox; `None` for plaintext.
    pub(crate) tls: Option<&'static str>,
}

/// Where the requests of a connection may go.
pub(crate) enum Route {
    /// TLS: to the one authority that the connection was decided for.
    Tls {
        permit: InterceptPermit,
        generation: u64,
        pool: Arc<Pool>,
    },
    /// Plaintext: to whatever authority each request names and policy allows at this port.
    Plaintext { port: u16 },
}

/// A connection that speaks HTTP, to be driven until either side ends it. Boxed, with no more in
/// it than its own version needs, because most of its life it is idle.
pub(crate) type Serving = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// Serves requests on `stream`.
pub(crate) fn serve<S>(session: Session, stream: S) -> Serving
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let closing = session.sandbox.closing().clone();
    let version = session.version;
    let session = Arc::new(session);
    // A request's future is boxed as well: hyper keeps the place of one for as long as the
    // connection lasts.
    let service = service_fn(move |request| Box::pin(respond(session.clone(), request)));
    let stream = TokioIo::new(stream);
    match version {
        Version::H1 => {
            let connection = h1().serve_connection(stream, service).with_upgrades();
            Box::pin(until_closed(closing, connection))
        }
        Version::H2 => {
            let connection = h2().serve_connection(stream, service);
            Box::pin(until_closed(closing, connection))
        }
    }
}

/// Drives `connection` until it ends, or its sandbox does.
fn until_closed<F>(
    closing: CancellationToken,
    connection: F,
) -> impl Future<Output = Result<(), hyper::Error>>
where
    F: Future<Output = Result<(), hyper::Error>>,
{
    closing
        .run_until_cancelled_owned(connection)
        .map(|ended| ended.unwrap_or(Ok(())))
}

fn h1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(MAX_BUFFER);
    builder
}

fn h2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn respond(
    session: Arc<Session>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let (head, body) = request.into_parts();
    let exchange = Exchange::begin(session.clone(), head.method.clone(), head.uri.clone());
    let answer = match forward(&session, &exchange, head, body).await {
        Ok(response) => response,
        Err(refusal) => {
            let bound = session.sandbox.bound();
            let host = exchange.host();
            refusal.answer(bound.policy.name(), &host, exchange)
        }
    };
    Ok(answer)
}

async fn forward(
    session: &Session,
    exchange: &Arc<Exchange>,
    mut head: Parts,
    body: Incoming,
) -> Result<Response<Reply>, Refusal> {
    let pool = decide(session, exchange, &mut head)?;

    let websocket = session.version == Version::H1 && fields::wants_websocket(&head.headers);
    fields::strip_request(&mut head.headers, websocket);
    if session.version == Version::H1 {
        head.uri = origin_form(head.uri);
    }
    let mut request = Request::from_parts(head, Outgoing::new(body, exchange.clone()));
    let downstream = websocket.then(|| hyper::upgrade::on(&mut request));

    let answer = pool.send(session.version, request);
    let Answer {
        mut response,
        remote,
        lease,
    } = time::timeout(session.node.limits.idle_timeout, answer)
        .await
        .map_err(|_| UpstreamError::Timeout)??;

    exchange.answered(response.status(), Some(remote));
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    fields::strip_response(response.headers_mut(), switched);
    match downstream {
        Some(downstream) if switched => {
            upgrade::join(
                downstream,
                hyper::upgrade::on(&mut response),
                exchange.clone(),
            );
        }
        None if switched => return Err(UpstreamError::Unasked.into()),
        _ => {}
    }
    Ok(response.map(|body| Reply::upstream(body, exchange.clone(), lease)))
}

/// From the head of a request to the pool that it may go to: one authority, allowed by policy,
/// with its stubs swapped. The policy is asked anew when it changed since the connection began.
fn decide(session: &Session, exchange: &Exchange, head: &mut Parts) -> Result<Arc<Pool>, Refusal> {
    let bound = session.sandbox.bound();
    match &session.route {
        Route::Tls {
            permit,
            pool,
            generation,
        } if *generation == bound.generation => {
            intercepted(permit, &bound, exchange, head)?;
            Ok(pool.clone())
        }
        Route::Tls { permit, .. } => {
            let permit = bound.intercept(permit.authority())?;
            intercepted(&permit, &bound, exchange, head)?;
            let upstreams = session.sandbox.upstreams(session.worker);
            Ok(upstreams.pool(permit.authority(), Transport::Tls))
        }
        Route::Plaintext { port } => {
            let authority = in_plaintext(*port, &bound, exchange, head)?;
            let upstreams = session.sandbox.upstreams(session.worker);
            Ok(upstreams.pool(&authority, Transport::Plain))
        }
    }
}

fn intercepted(
    permit: &InterceptPermit,
    bound: &Bound,
    exchange: &Exchange,
    head: &mut Parts,
) -> Result<(), Refusal> {
    authority::of_connection(head, permit.authority())?;
    let request = permit.request(head.method.as_str(), head.uri.path())?;
    exchange.swapped(inject::swap(
        permit,
        &request,
        &bound.stubs,
        &bound.secrets,
        head,
    )?);
    Ok(())
}

/// Plaintext has no SNI: the request's own authority is the one, at the port that was dialled.
fn in_plaintext(
    port: u16,
    bound: &Bound,
    exchange: &Exchange,
    head: &Parts,
) -> Result<Authority, Refusal> {
    let authority = authority::of_request(head, &Scheme::HTTP)?;
    exchange.named(authority.clone());
    let Host::Name(name) = authority.host() else {
        return Err(AuthorityError::Mismatch.into());
    };
    if authority.port() != port {
        return Err(AuthorityError::Mismatch.into());
    }
    bound
        .policy
        .plaintext(name, port)?
        .request(head.method.as_str(), head.uri.path())?;
    inject::forbid(&bound.stubs, head)?;
    Ok(authority)
}

/// What an origin server is sent (RFC 9112 §3.2.1); the authority stands in `Host`.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let target = uri.into_parts().path_and_query;
    target.map_or_else(|| Uri::from_static("/"), Uri::from)
}
