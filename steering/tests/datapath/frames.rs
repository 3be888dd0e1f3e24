//! Raw frames, sent and received by packet sockets.

use std::{
    io::{self, Read as _},
    time::{Duration, Instant},
};

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

#[expect(dead_code, reason = "shared with the tests of the decision")]
#[path = "../../../ebpf-common/tests/frames/mod.rs"]
mod shared;

pub(crate) use shared::*;

/// A packet socket on a link of the calling thread's namespace: it sends
/// frames as they are, and sees all that come and go.
pub(crate) struct Wire {
    socket: Socket,
    address: SockAddr,
}

impl Wire {
    pub(crate) fn open(link: &str) -> Self {
        let all = Protocol::from(i32::from(every_protocol()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
        let address = link_address(nix::net::if_::if_nametoindex(link).unwrap());
        socket.bind(&address).unwrap();
        Self { socket, address }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(
            self.socket.send_to(frame, &self.address).unwrap(),
            frame.len()
        );
    }

    /// The first frame that is wanted, if it comes in time.
    pub(crate) fn receive(
        &self,
        patience: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        let mut frame = [0; 2048];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            match (&self.socket).read(&mut frame) {
                Ok(length) if wanted(&frame[..length]) => return Some(frame[..length].to_vec()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn every_protocol() -> u16 {
    u16::try_from(libc::ETH_P_ALL).unwrap().to_be()
}

fn link_address(ifindex: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap();
    // SAFETY: a storage is large and aligned enough for every kind of address.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    link.sll_protocol = every_protocol();
    link.sll_ifindex = i32::try_from(ifindex).unwrap();
    // SAFETY: the storage holds an address of this family and length.
    unsafe { SockAddr::new(storage, length) }
}
