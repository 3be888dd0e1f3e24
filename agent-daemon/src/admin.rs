//! Metrics, liveness and readiness, for the operator alone.
//!
//! Served on a Unix socket that only root can open and, when configured, on a
//! loopback port of the node's namespace. Neither can be reached from a
//! sandbox: it has another mount and network namespace, and addresses that are
//! local to the node are never dialled for it. Three paths and nothing else:
//! no secrets, no names of hosts, no debugging.

mod readiness;

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::timeout,
};

pub use self::readiness::{Condition, Readiness};
use crate::metrics::{Metrics, Scraped};

/// Connections served at once; a further one waits.
const CONNECTIONS: usize = 16;
/// A request's head must be there within this time.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A connection is closed after this time, used or not.
const CONNECTION_TIME: Duration = Duration::from_mins(1);

/// What is served.
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    /// Reads the numbers that are kept elsewhere.
    pub scrape: Box<dyn Fn() -> Scraped + Send + Sync>,
}

/// Why the admin surface could not be opened. The operator's to put right.
#[derive(Debug, Error)]
pub enum AdminError {
    #[error("cannot listen on {}", .0.display())]
    Socket(PathBuf, #[source] io::Error),
    #[error("cannot listen on {0}")]
    Port(SocketAddr, #[source] io::Error),
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
}

/// The bound sockets; the Unix socket is removed when this is dropped.
pub struct Listeners {
    unix: UnixListener,
    path: PathBuf,
    /// Tells our socket from one that a successor put in its place.
    inode: u64,
    tcp: Option<TcpListener>,
}

impl Listeners {
    /// Binds the socket at `path`, in place of one that a dead daemon of the
    /// same instance left there, and the loopback port.
    pub async fn bind(path: &Path, port: Option<SocketAddr>) -> Result<Listeners, AdminError> {
        let failed = |error| AdminError::Socket(path.to_owned(), error);
        let mut listeners = Listeners {
            unix: bind_unix(path).map_err(failed)?,
            path: path.to_owned(),
            inode: inode(path).map_err(failed)?,
            tcp: None,
        };
        if let Some(address) = port {
            if !address.ip().is_loopback() {
                return Err(AdminError::NotLoopback(address));
            }
            let tcp = TcpListener::bind(address).await;
            listeners.tcp = Some(tcp.map_err(|error| AdminError::Port(address, error))?);
        }
        Ok(listeners)
    }

    /// The address of the loopback port.
    pub fn port(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // Gone already is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Serves until it is dropped.
pub async fn serve(admin: Arc<Admin>, listeners: Listeners) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = connections.clone().acquire_owned().await;
        let accepted = listeners.accept().await;
        let admin = admin.clone();
        let Ok(stream) = accepted else {
            // Out of descriptors, as a rule: waiting is what helps.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            let _permit = permit;
            // A broken connection is its client's affair.
            let _ = timeout(CONNECTION_TIME, connection(admin, stream)).await;
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listeners {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = async {
            match &self.tcp {
                Some(tcp) => tcp.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.unix.accept() => Ok(Box::new(accepted?.0)),
            accepted = tcp => Ok(Box::new(accepted?.0)),
        }
    }
}

async fn connection(admin: Arc<Admin>, stream: Box<dyn Stream>) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let answer = answer(&admin, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(8 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(admin: &Admin, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/metrics" => {
            let text = admin.metrics.encode(&(admin.scrape)());
            respond(StatusCode::OK, METRICS_TYPE, text)
        }
        "/livez" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let (ready, json) = admin.readiness.report();
            let unready = StatusCode::SERVICE_UNAVAILABLE;
            let status = if ready { StatusCode::OK } else { unready };
            respond(status, "application/json", json)
        }
        _ => plain(StatusCode::NOT_FOUND, "/metrics, /livez or /readyz\n"),
    }
}

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.ino())
}

/// Binds beside the path and renames, so that the socket is never there with
/// more rights than its owner's.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
