//! What a frame out of a sandbox may do: `sandbox_ingress`.
//!
//! TCP and DNS go to the gate, questions for neighbours are answered on the
//! spot, all else is dropped. Nothing depends on what the sandbox claims but
//! its own source address, and that is compared with the pinned ones.

use crate::{
    DNS_PORT, DropReason, Family, Flow, Frame, Listener, Sandbox,
    answer::{Arp, ArpRequest, Discovery, NeighbourSolicit, arp, discovery},
    flags,
    frame::{
        ETHERTYPE_ARP, ETHERTYPE_V4, ETHERTYPE_V6, ICMP_V6, LINK_LEN, TCP, UDP, V4_LEN,
        V6_FRAGMENT, V6_LEN, link, tcp, udp_port, v4, v6,
    },
};

/// What happens to a frame of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Into the gate, its source being replaced.
    Steer(Segment),
    /// Back to the sandbox, as the gateway's answer.
    AnswerArp(ArpRequest),
    /// Back to the sandbox, as the gateway's answer.
    AnswerNeighbour(NeighbourSolicit),
    /// On to the host, which asked.
    ToHost,
    /// Dropped.
    Drop(DropReason),
}

/// A packet that is to be steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which addresses it has.
    pub family: Family,
    /// What it carries.
    pub transport: Transport,
}

/// What a steered packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A request for a new connection.
    Open,
    /// A later segment. Should its flow be one that the host opened, it goes to the host.
    Segment,
    /// A question to a name server.
    Dns,
}

impl Segment {
    /// The socket that must be there; `None` if the packet goes in regardless.
    #[inline(always)]
    pub fn listener(&self) -> Option<Listener> {
        match (self.transport, self.family) {
            (Transport::Open, Family::V4) => Some(Listener::Tcp4),
            (Transport::Open, Family::V6) => Some(Listener::Tcp6),
            (Transport::Dns, Family::V4) => Some(Listener::Udp4),
            (Transport::Dns, Family::V6) => Some(Listener::Udp6),
            (Transport::Segment, _) => None,
        }
    }

    /// The flow of a TCP segment out of a sandbox, as the recorder of inbound
    /// connections keys it.
    #[inline(always)]
    pub fn flow(&self, frame: &impl Frame, ifindex: u32) -> Option<Flow> {
        let (sandbox, host, offset) = match self.family {
            Family::V4 => {
                let [s0, s1, s2, s3, d0, d1, d2, d3]: [u8; 8] = frame.load(LINK_LEN + 12)?;
                (
                    widened([s0, s1, s2, s3]),
                    widened([d0, d1, d2, d3]),
                    LINK_LEN + V4_LEN,
                )
            }
            Family::V6 => (
                frame.load(LINK_LEN + 8)?,
                frame.load(LINK_LEN + 24)?,
                LINK_LEN + V6_LEN,
            ),
        };
        let [s0, s1, d0, d1]: [u8; 4] = frame.load(offset)?;
        Some(Flow {
            ifindex,
            host_port_be: u16::from_ne_bytes([d0, d1]),
            sandbox_port_be: u16::from_ne_bytes([s0, s1]),
            host,
            sandbox,
        })
    }
}

/// An IPv4 address in the first bytes of sixteen.
#[inline(always)]
pub(crate) fn widened([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Decides what happens to a frame that a sandbox sent.
#[inline(always)]
pub fn ingress(frame: &impl Frame, sandbox: &Sandbox) -> Verdict {
    match decide(frame, sandbox) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn decide(frame: &impl Frame, sandbox: &Sandbox) -> Result<Verdict, DropReason> {
    let link = link(frame)?;
    if link.source != sandbox.mac {
        return Err(DropReason::LinkSource);
    }
    match link.ethertype {
        ETHERTYPE_V4 => decide_v4(frame, sandbox, group(link.destination)),
        ETHERTYPE_V6 => decide_v6(frame, sandbox, group(link.destination)),
        ETHERTYPE_ARP => match arp(frame, sandbox)? {
            Arp::Request(request) => Ok(Verdict::AnswerArp(request)),
            Arp::Reply => to_host(sandbox, DropReason::Arp),
        },
        _ => Err(DropReason::EtherType),
    }
}

#[inline(always)]
fn decide_v4(frame: &impl Frame, sandbox: &Sandbox, group: bool) -> Result<Verdict, DropReason> {
    if group {
        return Err(DropReason::LinkDestination);
    }
    let ip = v4(frame)?;
    if !sandbox.owns_v4(ip.source) {
        return Err(DropReason::Source);
    }
    // "This" network, loopback, multicast, reserved: no connection goes there.
    if matches!(ip.destination[0], 0 | 127 | 224..) {
        return Err(DropReason::Destination);
    }
    let offset = LINK_LEN + V4_LEN;
    segment(frame, Family::V4, ip.protocol, offset, ip.payload)
}

#[inline(always)]
fn decide_v6(frame: &impl Frame, sandbox: &Sandbox, group: bool) -> Result<Verdict, DropReason> {
    let ip = v6(frame)?;
    if ip.next_header == ICMP_V6 {
        return match discovery(frame, sandbox)? {
            Discovery::Solicit(solicit) => Ok(Verdict::AnswerNeighbour(solicit)),
            Discovery::Advert => to_host(sandbox, DropReason::Neighbour),
        };
    }
    if group {
        return Err(DropReason::LinkDestination);
    }
    if !sandbox.owns_v6(&ip.source) {
        return Err(DropReason::Source);
    }
    if !reachable_v6(&ip.destination) {
        return Err(DropReason::Destination);
    }
    let offset = LINK_LEN + V6_LEN;
    segment(frame, Family::V6, ip.next_header, offset, ip.payload)
}

#[inline(always)]
fn segment(
    frame: &impl Frame,
    family: Family,
    protocol: u8,
    offset: usize,
    payload: usize,
) -> Result<Verdict, DropReason> {
    let transport = match (protocol, family) {
        (TCP, _) => {
            let tcp = tcp(frame, offset, payload)?;
            if !tcp.plausible() {
                return Err(DropReason::TcpFlags);
            }
            if tcp.opens() {
                Transport::Open
            } else {
                Transport::Segment
            }
        }
        (UDP, _) => {
            if udp_port(frame, offset, payload)? != DNS_PORT {
                return Err(DropReason::UdpPort);
            }
            Transport::Dns
        }
        (V6_FRAGMENT, Family::V6) => return Err(DropReason::Fragment),
        // Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, shim6.
        (0 | 43 | 50 | 51 | 60 | 135 | 139 | 140, Family::V6) => {
            return Err(DropReason::ExtensionHeader);
        }
        _ => return Err(DropReason::Protocol),
    };
    Ok(Verdict::Steer(Segment { family, transport }))
}

/// Truthful answers reach the host only where it may connect to the sandbox.
#[inline(always)]
fn to_host(sandbox: &Sandbox, otherwise: DropReason) -> Result<Verdict, DropReason> {
    if sandbox.has(flags::INBOUND) {
        Ok(Verdict::ToHost)
    } else {
        Err(otherwise)
    }
}

/// Whether a hardware address is that of a group of stations.
#[inline(always)]
fn group(destination: [u8; 6]) -> bool {
    destination[0] & 1 != 0
}

/// All but `::/64` (unspecified, loopback, mapped and compatible IPv4),
/// link-local and multicast.
#[inline(always)]
fn reachable_v6(destination: &[u8; 16]) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = *destination;
    let upper = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    upper != 0 && a != 0xff && !crate::answer::link_local(destination)
}
