//! The listeners: sockets of the gate's namespace in this process.
//!
//! TCP listens on any free port, so that an old and a new daemon never clash;
//! the kernel programs bring the connections, and the original destination is
//! the accepted socket's local address. DNS binds port 53, which several may.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd,
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{SteeringError, error::system, netns};

/// Where everything that sandboxes send arrives.
///
/// Non-blocking and transparent: a socket's local address is the one that the
/// sandbox asked for. The UDP sockets give it as `IP_PKTINFO` and
/// `IPV6_PKTINFO`, and must answer from it by the same control message.
#[derive(Debug)]
pub struct Listeners {
    /// All TCP over IPv4, port 53 too.
    pub tcp4: TcpListener,
    /// All TCP over IPv6, port 53 too.
    pub tcp6: TcpListener,
    /// DNS over IPv4.
    pub udp4: UdpSocket,
    /// DNS over IPv6.
    pub udp6: UdpSocket,
}

impl Listeners {
    /// Makes the sockets inside the gate.
    pub(crate) fn make(gate: impl AsFd) -> Result<Self, SteeringError> {
        netns::inside(gate.as_fd(), || {
            Ok(Self {
                tcp4: listener(Domain::IPV4).map_err(system("listen in the gate"))?,
                tcp6: listener(Domain::IPV6).map_err(system("listen in the gate"))?,
                udp4: datagrams(Domain::IPV4).map_err(system("listen for DNS in the gate"))?,
                udp6: datagrams(Domain::IPV6).map_err(system("listen for DNS in the gate"))?,
            })
        })
    }
}

fn listener(domain: Domain) -> std::io::Result<TcpListener> {
    let socket = transparent(domain, Type::STREAM, Protocol::TCP)?;
    socket.bind(&loopback(domain, 0).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn datagrams(domain: Domain) -> std::io::Result<UdpSocket> {
    let socket = transparent(domain, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_address(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    if domain == Domain::IPV4 {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    socket.bind(&loopback(domain, ersatz_ebpf_common::DNS_PORT).into())?;
    Ok(socket.into())
}

fn transparent(domain: Domain, kind: Type, protocol: Protocol) -> std::io::Result<Socket> {
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if domain == Domain::IPV4 {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_ip_transparent_v6(true)?;
    }
    Ok(socket)
}

fn loopback(domain: Domain, port: u16) -> SocketAddr {
    if domain == Domain::IPV4 {
        (Ipv4Addr::LOCALHOST, port).into()
    } else {
        (Ipv6Addr::LOCALHOST, port).into()
    }
}

/// Connections that wait to be accepted; what a new network namespace allows at most.
const BACKLOG: i32 = 4096;
/// Room for some hundred questions of a burst, in bytes.
const RECEIVE_BUFFER: usize = 512 * 1024;
