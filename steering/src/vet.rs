//! Which addresses are the node's own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether the address is local to the node, as its routing tables see it.
///
/// Connects a UDP socket, which sends nothing: to a local address the kernel
/// chooses that same address as the source (ip(7)). Needs no privilege. An
/// address that cannot be reached at all is not local; when the kernel cannot
/// be asked, as without a free descriptor, the answer is yes.
pub fn is_local(addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    if addr.is_loopback() || addr.is_unspecified() {
        return true;
    }
    match source_towards(addr) {
        Ok(source) => source == addr,
        Err(error) => !matches!(
            error.kind(),
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable
        ),
    }
}

fn source_towards(addr: IpAddr) -> io::Result<IpAddr> {
    let any = match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port does: no packet is sent.
    socket.connect(SocketAddr::new(addr, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_loopback_and_documentation_addresses() {
        for (address, local) in [
            ("127.0.0.1", true),
            ("127.200.3.4", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(is_local(address), local, "{address}");
        }
    }
}
