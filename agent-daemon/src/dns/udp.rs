//! DNS over UDP, for both families by one path.
//!
//! The sockets are in the gate and get queries to every address. An answer must
//! come from the address that was asked, or the client drops it: the asked
//! address arrives as IP(V6)_PKTINFO and goes out the same way. That an address
//! is nobody's own does not matter, the sockets are transparent.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
        setsockopt, sockopt,
    },
};
use tokio::{io::Interest, net::UdpSocket};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Zones,
    answer::{Transport, answer},
};

/// Answers the queries of all sandboxes until `shutdown` is cancelled.
///
/// # Errors
///
/// Fails when a socket cannot be told to report the asked address.
pub async fn serve(
    zones: Arc<dyn Zones>,
    udp4: UdpSocket,
    udp6: UdpSocket,
    shutdown: CancellationToken,
) -> io::Result<()> {
    for socket in [&udp4, &udp6] {
        // Without the right to it, the kernel's default is what there is.
        let _ = setsockopt(socket, sockopt::RcvBufForce, &WAITING);
    }
    setsockopt(&udp4, sockopt::Ipv4PacketInfo, &true)?;
    setsockopt(&udp6, sockopt::Ipv6RecvPacketInfo, &true)?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = answer_all(&*zones, &udp4) => {}
        () = answer_all(&*zones, &udp6) => {}
    }
    Ok(())
}

/// Octets of the largest query read. What is longer holds no honest question and is dropped.
const QUERY: usize = 4096;

/// Octets of queries that may wait in a socket: all sandboxes share it, so the flood of one must find room in it
/// until it is read and dropped. 4 MiB are some 5,000 queries, a quarter of a second of 20,000 a second.
const WAITING: usize = 4 << 20;

/// A socket that fails at once every time must not keep the core busy.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

async fn answer_all(zones: &dyn Zones, socket: &UdpSocket) {
    let mut buffer = [0; QUERY];
    loop {
        match receive(socket, &mut buffer).await {
            Ok(Some(query)) => answer_one(zones, socket, &query),
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "cannot receive a query");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

fn answer_one(zones: &dyn Zones, socket: &UdpSocket, query: &Datagram<'_>) {
    let Some(view) = zones.sandbox(query.peer.ip()) else {
        debug!(peer = %query.peer, "query of an unknown sandbox");
        return;
    };
    let Some(octets) = answer(&*view, query.octets, Transport::Udp) else {
        return;
    };
    // A full socket buffer loses the answer, as UDP may; the client asks again.
    if let Err(error) = send(socket, query, &octets) {
        debug!(peer = %query.peer, %error, "answer not sent");
    }
}

/// A query with where it came from and which address it asked.
struct Datagram<'a> {
    octets: &'a [u8],
    peer: SocketAddr,
    asked: IpAddr,
}

/// Gives `None` for what is no query to answer: too long, or without an address.
async fn receive<'a>(socket: &UdpSocket, buffer: &'a mut [u8]) -> io::Result<Option<Datagram<'a>>> {
    let read = socket
        .async_io(Interest::READABLE, || receive_now(socket, buffer))
        .await?;
    let Some((length, peer, asked)) = read else {
        return Ok(None);
    };
    let octets = buffer.get(..length);
    Ok(octets.map(|octets| Datagram {
        octets,
        peer,
        asked,
    }))
}

type Received = Option<(usize, SocketAddr, IpAddr)>;

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!(libc::in6_pktinfo);
    let mut octets = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut octets,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Ok(None);
    }
    let asked = message.cmsgs()?.find_map(|control| asked_address(&control));
    let peer = message.address.as_ref().and_then(socket_address);
    Ok(peer
        .zip(asked)
        .map(|(peer, asked)| (message.bytes, peer, asked)))
}

fn asked_address(control: &ControlMessageOwned) -> Option<IpAddr> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    }
}

fn socket_address(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = addr.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    addr.as_sockaddr_in6()
        .map(|v6| SocketAddr::V6((*v6).into()))
}

fn send(socket: &UdpSocket, query: &Datagram<'_>, octets: &[u8]) -> io::Result<()> {
    let octets = [IoSlice::new(octets)];
    let to = SockaddrStorage::from(query.peer);
    let fd = socket.as_raw_fd();
    let flags = MsgFlags::MSG_DONTWAIT;
    match query.asked {
        IpAddr::V4(asked) => {
            let source = libc::in_addr {
                s_addr: u32::from_ne_bytes(asked.octets()),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: source,
                ipi_addr: source,
            };
            sendmsg(
                fd,
                &octets,
                &[ControlMessage::Ipv4PacketInfo(&info)],
                flags,
                Some(&to),
            )?;
        }
        IpAddr::V6(asked) => {
            let source = libc::in6_addr {
                s6_addr: asked.octets(),
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: source,
                ipi6_ifindex: 0,
            };
            sendmsg(
                fd,
                &octets,
                &[ControlMessage::Ipv6PacketInfo(&info)],
                flags,
                Some(&to),
            )?;
        }
    }
    Ok(())
}
