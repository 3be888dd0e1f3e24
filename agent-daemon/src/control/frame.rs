//! Frames: four bytes of length, big-endian, then JSON; a descriptor may come along.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};
use zeroize::Zeroizing;

/// Bytes of JSON that a frame may hold: policies of some thousand rules fit, a
/// peer cannot make us hold more.
pub(super) const MAX_FRAME: usize = 1 << 20;

/// Descriptors that are taken from one message; more than one is refused.
const MAX_FDS: usize = 4;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between frames.
    #[error("the connection was closed")]
    Closed,
    /// The peer closed the connection within a frame.
    #[error("the connection broke off within a message")]
    Truncated,
    /// The announced length is zero or beyond the bound.
    #[error("a message of {0} bytes is beyond the bound of {MAX_FRAME}")]
    Length(usize),
    /// More than one descriptor came along.
    #[error("a message came with more than one descriptor")]
    Descriptors,
    /// The content is no message of this protocol.
    #[error("malformed message")]
    Malformed(#[source] serde_json::Error),
    /// The socket failed.
    #[error("socket error")]
    Io(#[from] io::Error),
}

/// Reads one frame and the descriptor that came with it.
pub(super) async fn read(
    stream: &UnixStream,
) -> Result<(Zeroizing<Vec<u8>>, Option<OwnedFd>), FrameError> {
    let mut descriptors = Vec::new();
    let mut header = [0_u8; 4];
    match fill(stream, &mut header, &mut descriptors).await? {
        0 => return Err(FrameError::Closed),
        4 => {}
        _ => return Err(FrameError::Truncated),
    }
    let length = u32::from_be_bytes(header) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    let mut body = Zeroizing::new(vec![0_u8; length]);
    if fill(stream, &mut body, &mut descriptors).await? != length {
        return Err(FrameError::Truncated);
    }
    if descriptors.len() > 1 {
        return Err(FrameError::Descriptors);
    }
    Ok((body, descriptors.pop()))
}

/// Fills `buffer` and says how many bytes came before the end of the stream.
async fn fill(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, FrameError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let received = stream
            .async_io(Interest::READABLE, || {
                receive(stream.as_fd(), rest, descriptors)
            })
            .await?;
        if received == 0 {
            break;
        }
        filled += received;
    }
    Ok(filled)
}

fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            // What is beyond the bound is closed at once by being dropped.
            descriptors.extend(fds.take(MAX_FDS.saturating_sub(descriptors.len())));
        }
    }
    Ok(received.bytes)
}

/// Writes one frame; `descriptor` goes along with its first bytes.
pub(super) async fn write(
    stream: &UnixStream,
    message: &impl serde::Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), FrameError> {
    let frame = encode(message)?;
    let mut rest: &[u8] = &frame;
    let mut descriptor = descriptor;
    while !rest.is_empty() {
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                send(stream.as_fd(), rest, descriptor)
            })
            .await?;
        descriptor = None;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

fn encode(message: &impl serde::Serialize) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    // Made large enough at once: growing would leave copies of secrets behind.
    let mut frame = Zeroizing::new(Vec::with_capacity(MAX_FRAME + 4));
    frame.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *frame, message).map_err(FrameError::Malformed)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    let header = u32::try_from(length)
        .map_err(|_| FrameError::Length(length))?
        .to_be_bytes();
    for (place, byte) in frame.iter_mut().zip(header) {
        *place = byte;
    }
    Ok(frame)
}

fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}
