//! What `ersatz run` and the init say to each other.
//!
//! The socket is the init's standard input, so that no number has to be agreed
//! on; the command's real standard input comes along with the plan.

use std::{
    ffi::OsString,
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::InitError;
use crate::run::User;

/// Bytes that a message may hold: an environment and a list of masks fit by far.
const MAX_MESSAGE: usize = 16 << 20;

/// Everything the init needs; it holds stubs and no secret.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    /// Whom the command runs as.
    pub user: User,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The working directory.
    pub directory: OsString,
    /// The certificate authority to trust, PEM.
    pub ca_pem: String,
    /// Roots that the policy adds to the public ones, PEM.
    pub roots_pem: String,
    /// The address for `resolv.conf`.
    pub resolver: std::net::IpAddr,
    /// The caller's terminal, by its path, if it has one.
    pub terminal: Option<OsString>,
    /// Files and directories that are hidden.
    pub masks: Vec<OsString>,
    /// Whether the command gets a process group of its own.
    pub own_group: bool,
    /// Whether that group becomes the terminal's foreground.
    pub foreground: bool,
}

/// What `ersatz run` says.
#[derive(Serialize, Deserialize)]
pub enum ToInit {
    /// Make the sandbox and start the command.
    Start(Box<Plan>),
    /// Send a signal to the command.
    Signal(i32),
    /// Go on after a stop, in the foreground or not.
    Continue {
        /// Whether the command's group becomes the terminal's foreground again.
        foreground: bool,
    },
}

/// What the init says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// The command runs.
    Started,
    /// A signal stopped the command.
    Stopped(i32),
    /// The command ended, with this exit code.
    Ended(u8),
    /// The sandbox could not be made.
    Failed {
        /// The exit code for it.
        code: u8,
        /// What went wrong, for people.
        message: String,
    },
}

impl FromInit {
    pub(super) fn failed(error: &InitError) -> FromInit {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        FromInit::Failed {
            code: error.code(),
            message,
        }
    }
}

/// A message as it goes over the socket.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The length that a message's header announces.
pub fn decode_length(header: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message beyond the bound",
        ));
    }
    Ok(length)
}

/// The init's end of the socket.
pub(super) struct Control {
    stream: UnixStream,
}

impl Control {
    /// Takes the socket from standard input and leaves `/dev/null` there.
    pub(super) fn from_stdin() -> io::Result<Control> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Control {
            stream: UnixStream::from(socket),
        })
    }

    /// Waits for the plan, and for the command's standard input with it.
    pub(super) fn plan(&mut self) -> Result<(Plan, Option<OwnedFd>), InitError> {
        let (header, stdin) = self.header().map_err(InitError::Control)?;
        match self.body(header).map_err(InitError::Control)? {
            ToInit::Start(plan) => Ok((*plan, stdin)),
            _ => Err(InitError::Control(io::ErrorKind::InvalidData.into())),
        }
    }

    /// The next order.
    pub(super) fn receive(&mut self) -> Result<ToInit, InitError> {
        let mut header = [0_u8; 4];
        self.stream
            .read_exact(&mut header)
            .map_err(InitError::Control)?;
        self.body(header).map_err(InitError::Control)
    }

    pub(super) fn send(&mut self, message: &FromInit) -> Result<(), InitError> {
        let frame = encode(message).map_err(InitError::Control)?;
        self.stream.write_all(&frame).map_err(InitError::Control)
    }

    /// Fails when `ersatz run` ended before its death could be signalled to us.
    pub(super) fn check_alive(&self) -> Result<(), InitError> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&now)) {
            Ok(0) => Ok(()),
            Ok(_) => Err(InitError::Control(io::ErrorKind::BrokenPipe.into())),
            Err(error) => Err(InitError::Control(error.into())),
        }
    }

    fn header(&mut self) -> io::Result<([u8; 4], Option<OwnedFd>)> {
        let mut header = [0_u8; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(&mut header)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
        )?;
        if received.bytes != header.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let stdin = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok((header, stdin))
    }

    fn body<T: DeserializeOwned>(&mut self, header: [u8; 4]) -> io::Result<T> {
        let mut body = vec![0_u8; decode_length(header)?];
        self.stream.read_exact(&mut body)?;
        serde_json::from_slice(&body).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
