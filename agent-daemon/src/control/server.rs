//! The daemon's side of the control socket.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt::socket_peercred;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

use super::{Answer, Call, FrameError, Refusal, Refused, VERSION, frame};
use crate::enrol::{EnrolRequest, Enrolled};

/// Connections held at once, each a sandbox: what the steering has slots for.
const MAX_CONNECTIONS: usize = 4096;

/// The time in which a client must have sent its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a refused client may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// Who enrols sandboxes: the daemon, or a test.
pub trait Enrol: Send + Sync + 'static {
    /// What keeps a sandbox enrolled until it is dropped.
    type Handle: Send + 'static;

    /// Enrols the sandbox whose network namespace is `netns`.
    fn enrol(
        &self,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> impl Future<Output = Result<(Self::Handle, Enrolled), Refusal>> + Send;

    /// What was refused to the sandbox so far.
    fn refused(_handle: &Self::Handle) -> Vec<Refused> {
        Vec::new()
    }
}

/// Binds the socket at `path`, for root alone, in place of one that a dead daemon left.
///
/// The caller holds the instance's lock, so that a socket found there is nobody's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the control socket until the future is dropped.
pub async fn serve<D: Enrol>(daemon: Arc<D>, listener: UnixListener) {
    serve_at_most(MAX_CONNECTIONS, daemon, listener).await;
}

/// Serves it with this many connections at once.
pub(super) async fn serve_at_most<D: Enrol>(bound: usize, daemon: Arc<D>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(bound));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "the control socket refuses connections");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            warn!(bound, "too many control connections, refusing one");
            continue;
        };
        let daemon = daemon.clone();
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection(&*daemon, &stream).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a control connection failed"
                );
            }
        });
    }
}

/// One connection: one request, one answer, then the lease until the client closes.
async fn connection<D: Enrol>(daemon: &D, stream: &UnixStream) -> Result<(), FrameError> {
    let refusal = match admit(daemon, stream).await {
        Ok((handle, enrolled)) => {
            frame::write(stream, &Answer::Enrolled(enrolled), None).await?;
            closed(stream).await;
            let refused = D::refused(&handle);
            drop(handle);
            // A client that died reads no summary.
            return match frame::write(stream, &Answer::Ended(refused), None).await {
                Err(FrameError::Io(_)) => Ok(()),
                result => result,
            };
        }
        Err(refusal) => refusal,
    };
    debug!(reason = %refusal.reason, "refused to enrol a sandbox");
    match frame::write(stream, &Answer::Refused(refusal), None).await {
        // One that only looked whether we are there is gone already.
        Err(FrameError::Io(_)) => return Ok(()),
        result => result?,
    }
    // To close before the client has sent all would take the answer from it.
    drop(timeout(LINGER, closed(stream)).await);
    Ok(())
}

async fn admit<D: Enrol>(
    daemon: &D,
    stream: &UnixStream,
) -> Result<(D::Handle, Enrolled), Refusal> {
    authorise(stream)?;
    let (body, netns) = timeout(REQUEST_TIME, frame::read(stream))
        .await
        .map_err(|_| malformed("no request came in time"))?
        .map_err(|error| malformed(&error.to_string()))?;
    let call: Call = serde_json::from_slice(&body).map_err(|error| malformed(&position(&error)))?;
    if call.version != VERSION {
        return Err(Refusal {
            reason: "version".to_owned(),
            message: format!(
                "the client speaks version {} of the control protocol, this daemon {VERSION}",
                call.version
            ),
        });
    }
    let netns = netns.ok_or_else(|| malformed("no network namespace came along"))?;
    daemon.enrol(call.enrol, netns).await
}

fn authorise(stream: &UnixStream) -> Result<(), Refusal> {
    match socket_peercred(stream.as_fd()) {
        Ok(peer) if peer.uid.is_root() => Ok(()),
        _ => Err(Refusal {
            reason: "not-root".to_owned(),
            message: "only root may enrol sandboxes".to_owned(),
        }),
    }
}

/// Where the JSON is wrong; not what stands there, which may be a secret.
fn position(error: &serde_json::Error) -> String {
    format!(
        "not a request, at line {} column {}",
        error.line(),
        error.column()
    )
}

fn malformed(message: &str) -> Refusal {
    Refusal {
        reason: "malformed".to_owned(),
        message: message.to_owned(),
    }
}

/// Waits until the client closes; what it sends meanwhile is thrown away.
async fn closed(stream: &UnixStream) {
    let mut scrap = [0_u8; 256];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut scrap) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}
