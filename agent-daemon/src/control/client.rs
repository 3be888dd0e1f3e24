//! The client's side: enrol, hold the lease, enrol again when the daemon dies.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{Answer, Call, FrameError, Refusal, Refused, VERSION, frame};
use crate::enrol::{EnrolRequest, Enrolled};

/// The pause between attempts to reach the next daemon: a restart takes 20 to 70 ms.
const RETRY: Duration = Duration::from_millis(20);

/// The pause after a daemon refused: it will hardly think otherwise within milliseconds.
const RETRY_REFUSED: Duration = Duration::from_secs(1);

/// How long the daemon may take to say what it refused; it is told to a person who waits.
const SUMMARY_TIME: Duration = Duration::from_secs(1);

/// Why a sandbox could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket that was tried.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the daemon did not answer")]
    Frame(#[from] FrameError),
    /// The daemon said no.
    #[error("the daemon refused")]
    Refused(#[source] Refusal),
}

/// A connection to a running daemon.
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon at `path`.
    pub async fn connect(path: &Path) -> Result<Client, ControlError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ControlError::Connect {
                path: path.to_owned(),
                source,
            })?;
        Ok(Client {
            path: path.to_owned(),
            stream,
        })
    }

    /// Enrols the sandbox whose network namespace is `netns`.
    ///
    /// The returned lease keeps it enrolled, over changes of the daemon, until it is dropped.
    pub async fn enrol(
        self,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> Result<(Lease, Enrolled), ControlError> {
        let mut call = Call {
            version: VERSION,
            enrol: request,
        };
        let enrolled = exchange(&self.stream, &call, &netns).await?;
        call.enrol.stubs.clone_from(&enrolled.stubs);
        let keeper = Keeper {
            path: self.path,
            call,
            netns,
            ca_pem: enrolled.ca_pem.clone(),
        };
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(keeper.keep(self.stream, ended));
        Ok((Lease { end, task }, enrolled))
    }
}

/// Keeps a sandbox enrolled; dropped, the sandbox is un-enrolled.
pub struct Lease {
    /// Closed by being dropped, which ends the task and with it the connection.
    end: oneshot::Sender<()>,
    task: JoinHandle<Option<UnixStream>>,
}

impl Lease {
    /// Un-enrols the sandbox and asks what was refused to it; nobody there knows of nothing.
    pub async fn end(self) -> Vec<Refused> {
        drop(self.end);
        let Ok(Some(stream)) = self.task.await else {
            return Vec::new();
        };
        timeout(SUMMARY_TIME, summary(stream))
            .await
            .unwrap_or_default()
    }
}

async fn summary(mut stream: UnixStream) -> Vec<Refused> {
    if stream.shutdown().await.is_err() {
        return Vec::new();
    }
    let Ok((body, _)) = frame::read(&stream).await else {
        return Vec::new();
    };
    match serde_json::from_slice(&body) {
        Ok(Answer::Ended(refused)) => refused,
        _ => Vec::new(),
    }
}

/// What it takes to enrol the same sandbox again.
struct Keeper {
    path: PathBuf,
    call: Call,
    netns: OwnedFd,
    ca_pem: String,
}

impl Keeper {
    /// Holds the connection, or its successors, until the lease ends; gives it back then.
    async fn keep(
        self,
        mut stream: UnixStream,
        mut ended: oneshot::Receiver<()>,
    ) -> Option<UnixStream> {
        loop {
            tokio::select! {
                _ = &mut ended => return Some(stream),
                () = broken(&stream) => {}
            }
            warn!("the daemon is gone, the sandbox reaches nothing until it is back");
            stream = tokio::select! {
                _ = &mut ended => return None,
                stream = self.again() => stream,
            };
            info!("the sandbox is enrolled again");
        }
    }

    /// Tries until a daemon has the sandbox; each failure of a new kind is said once.
    async fn again(&self) -> UnixStream {
        let mut said = String::new();
        loop {
            let error = match self.attempt().await {
                Ok(stream) => return stream,
                Err(error) => error,
            };
            let pause = match error {
                ControlError::Refused(_) => RETRY_REFUSED,
                _ => RETRY,
            };
            let text = error.to_string();
            if text != said {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot enrol again yet"
                );
                said = text;
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&self) -> Result<UnixStream, ControlError> {
        let client = Client::connect(&self.path).await?;
        let enrolled = exchange(&client.stream, &self.call, &self.netns).await?;
        if enrolled.ca_pem != self.ca_pem {
            warn!(
                "the new daemon has another certificate authority: TLS will fail in this sandbox"
            );
        }
        Ok(client.stream)
    }
}

async fn exchange(
    stream: &UnixStream,
    call: &Call,
    netns: &OwnedFd,
) -> Result<Enrolled, ControlError> {
    frame::write(stream, call, Some(netns.as_fd())).await?;
    let (body, _) = frame::read(stream).await?;
    match serde_json::from_slice(&body).map_err(FrameError::Malformed)? {
        Answer::Enrolled(enrolled) => Ok(enrolled),
        Answer::Refused(refusal) => Err(ControlError::Refused(refusal)),
        Answer::Ended(_) => Err(FrameError::Closed.into()),
    }
}

/// Waits until the daemon is gone; it says nothing after its answer.
async fn broken(stream: &UnixStream) {
    let mut scrap = [0_u8; 256];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut scrap) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}
