//! Makes the namespaces and the sandbox's first process.
//!
//! A thread of its own enters fresh namespaces and starts this program again in
//! them, as process 1. It then waits there: a process dies with the *thread*
//! that started it, so the thread lives as long as this process does.

use std::{
    fs::File,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::init::{self, FromInit, Plan, ToInit};

/// A sandbox whose first process waits for its plan.
pub(super) struct Sandbox {
    socket: UnixStream,
    netns: OwnedFd,
}

/// Makes a sandbox; this process must have no other thread yet.
pub(super) fn launch() -> anyhow::Result<Sandbox> {
    let (ours, theirs) = UnixStream::pair()?;
    let (tell, told) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("launcher".to_owned())
        .spawn(move || {
            let started = start(theirs);
            let child = started.map(|(netns, child)| {
                drop(tell.send(Ok(netns)));
                child
            });
            match child {
                // Its end is told over the socket; this only reaps it.
                Ok(mut child) => drop(child.wait()),
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
    let netns = told.recv().map_err(|_| anyhow!("the launcher ended"))??;
    Ok(Sandbox {
        socket: ours,
        netns,
    })
}

fn start(socket: UnixStream) -> anyhow::Result<(OwnedFd, std::process::Child)> {
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).context("cannot make namespaces")?;
    let netns = File::open("/proc/thread-self/ns/net").context("cannot open the namespace")?;
    let child = Command::new("/proc/self/exe")
        .arg0("ersatz-init")
        .arg(init::ARGUMENT)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .spawn()
        .context("cannot start the sandbox's first process")?;
    Ok((netns.into(), child))
}

impl Sandbox {
    /// Takes the sandbox apart into the conversation with its init and its network namespace.
    pub(super) fn connect(self) -> io::Result<(Control, OwnedFd)> {
        self.socket.set_nonblocking(true)?;
        Ok((
            Control {
                stream: tokio::net::UnixStream::from_std(self.socket)?,
            },
            self.netns,
        ))
    }
}

/// The conversation with the init; dropped, the sandbox ends.
pub(super) struct Control {
    stream: tokio::net::UnixStream,
}

impl Control {
    /// Hands over the plan, with this process's standard input.
    pub(super) async fn start(&mut self, plan: Plan) -> anyhow::Result<()> {
        let frame = init::encode(&ToInit::Start(Box::new(plan)))?;
        let stdin = io::stdin();
        self.stream.writable().await?;
        let sent = send(&self.stream, &frame, stdin.as_fd()).context("the init is gone")?;
        let rest = frame.get(sent..).unwrap_or_default();
        self.stream
            .write_all(rest)
            .await
            .context("the init is gone")
    }

    /// Splits into what it says and what it is told.
    pub(super) fn split(self) -> (Reports, Orders) {
        let (read, write) = self.stream.into_split();
        (Reports(read), Orders(write))
    }
}

/// What the init says.
pub(super) struct Reports(tokio::net::unix::OwnedReadHalf);

impl Reports {
    /// The next report, `None` when the init is gone. Not cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<FromInit>> {
        let mut header = [0_u8; 4];
        match self.0.read_exact(&mut header).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        };
        let mut body = vec![0_u8; init::decode_length(header)?];
        self.0.read_exact(&mut body).await?;
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

/// What the init is told.
pub(super) struct Orders(tokio::net::unix::OwnedWriteHalf);

impl Orders {
    /// Gives an order; an init that is gone needs none.
    pub(super) async fn give(&mut self, order: &ToInit) -> io::Result<()> {
        match self.0.write_all(&init::encode(order)?).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

fn send(
    socket: &tokio::net::UnixStream,
    bytes: &[u8],
    descriptor: impl AsFd,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
}
