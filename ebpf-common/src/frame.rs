//! Reading a frame: Ethernet, IPv4, IPv6 and the ports behind them.

use crate::DropReason;

/// The bytes of a frame, wherever they are.
///
/// The kernel's implementation compares with the end of the packet's data, as
/// the verifier wants it; that of the tests is a slice.
pub trait Frame {
    /// The `N` bytes at `offset`, if the frame has them.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// The bytes of the whole frame, those that are not readable at once too.
    fn len(&self) -> usize;

    /// Whether the kernel took a VLAN tag out of the frame.
    fn vlan(&self) -> bool;

    /// Whether the frame has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How many bytes from the start of a frame a decision may look at.
pub const HEADERS_MAX: usize = 86;

/// The address family of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// To whom.
    pub destination: [u8; 6],
    /// From whom.
    pub source: [u8; 6],
    /// What is inside.
    pub ethertype: u16,
}

pub(crate) const ETHERTYPE_V4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_V6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

pub(crate) const LINK_LEN: usize = 14;
pub(crate) const V4_LEN: usize = 20;
pub(crate) const V6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const V6_FRAGMENT: u8 = 44;
pub(crate) const ICMP_V6: u8 = 58;

/// Reads the Ethernet header; a VLAN tag is refused.
#[inline(always)]
pub(crate) fn link(frame: &impl Frame) -> Result<Link, DropReason> {
    let header: [u8; LINK_LEN] = frame.load(0).ok_or(DropReason::Runt)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = header;
    let ethertype = u16::from_be_bytes([m, n]);
    if frame.vlan() || ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
        return Err(DropReason::Vlan);
    }
    Ok(Link {
        destination: [a, b, c, d, e, f],
        source: [g, h, i, j, k, l],
        ethertype,
    })
}

/// An IPv4 header without options, of a packet that is no fragment.
pub(crate) struct V4 {
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
    pub(crate) protocol: u8,
    /// The bytes behind the header.
    pub(crate) payload: usize,
}

/// Reads the IPv4 header and refuses what a sandbox has no use for.
#[inline(always)]
pub(crate) fn v4(frame: &impl Frame) -> Result<V4, DropReason> {
    let [
        version_ihl,
        _,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ]: [u8; V4_LEN] = frame.load(LINK_LEN).ok_or(DropReason::Runt)?;
    if version_ihl >> 4 != 4 || version_ihl & 0xf < 5 {
        return Err(DropReason::Malformed);
    }
    if version_ihl & 0xf > 5 {
        return Err(DropReason::Options);
    }
    // All but "do not fragment": the reserved bit, "more fragments", the offset.
    if u16::from_be_bytes([f0, f1]) & 0xbfff != 0 {
        return Err(DropReason::Fragment);
    }
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    if total < V4_LEN || total > frame.len() - LINK_LEN {
        return Err(DropReason::Malformed);
    }
    Ok(V4 {
        source: [s0, s1, s2, s3],
        destination: [d0, d1, d2, d3],
        protocol,
        payload: total - V4_LEN,
    })
}

/// The fixed IPv6 header.
pub(crate) struct V6 {
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    /// The bytes behind the header.
    pub(crate) payload: usize,
}

/// Reads the IPv6 header; extension headers are the caller's matter.
#[inline(always)]
pub(crate) fn v6(frame: &impl Frame) -> Result<V6, DropReason> {
    let [version, _, _, _, p0, p1, next_header, hop_limit]: [u8; 8] =
        frame.load(LINK_LEN).ok_or(DropReason::Runt)?;
    let source = frame.load(LINK_LEN + 8).ok_or(DropReason::Runt)?;
    let destination = frame.load(LINK_LEN + 24).ok_or(DropReason::Runt)?;
    let payload = usize::from(u16::from_be_bytes([p0, p1]));
    if version >> 4 != 6 || payload > frame.len() - LINK_LEN - V6_LEN {
        return Err(DropReason::Malformed);
    }
    Ok(V6 {
        source,
        destination,
        next_header,
        hop_limit,
        payload,
    })
}

/// The part of a TCP header that matters for steering.
pub(crate) struct Tcp {
    pub(crate) source_port_be: u16,
    pub(crate) destination_port_be: u16,
    pub(crate) flags: u8,
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

impl Tcp {
    /// Whether this segment asks for a new connection.
    pub(crate) fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Whether some connection could carry this segment (RFC 9293).
    pub(crate) fn plausible(&self) -> bool {
        let kind = self.flags & (SYN | RST | ACK);
        let closing = self.flags & FIN != 0;
        kind != 0
            && kind & (SYN | RST) != SYN | RST
            && !(closing && (kind & ACK == 0 || kind & (SYN | RST) != 0))
            && self.source_port_be != 0
            && self.destination_port_be != 0
    }
}

/// Reads the TCP header at `offset`, behind which `payload` bytes are claimed.
#[inline(always)]
pub(crate) fn tcp(frame: &impl Frame, offset: usize, payload: usize) -> Result<Tcp, DropReason> {
    if payload < TCP_LEN {
        return Err(DropReason::Malformed);
    }
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, data_offset, flags]: [u8; 14] =
        frame.load(offset).ok_or(DropReason::Runt)?;
    let header = usize::from(data_offset >> 4) * 4;
    if header < TCP_LEN || header > payload {
        return Err(DropReason::Malformed);
    }
    Ok(Tcp {
        source_port_be: u16::from_ne_bytes([s0, s1]),
        destination_port_be: u16::from_ne_bytes([d0, d1]),
        flags,
    })
}

/// Reads the destination port, in host order, of the UDP header at `offset`.
#[inline(always)]
pub(crate) fn udp_port(
    frame: &impl Frame,
    offset: usize,
    payload: usize,
) -> Result<u16, DropReason> {
    let [_, _, d0, d1, l0, l1]: [u8; 6] = frame.load(offset).ok_or(DropReason::Runt)?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if length < UDP_LEN || length > payload {
        return Err(DropReason::Malformed);
    }
    Ok(u16::from_be_bytes([d0, d1]))
}
