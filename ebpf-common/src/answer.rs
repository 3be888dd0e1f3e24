//! The answers to "who has this address?": always the gateway.
//!
//! The sandbox's program answers ARP and neighbour solicitations for any
//! target itself, so that neither reaches the host and no neighbour ever does.
//! Two questions stay unanswered: for an address of the sandbox's own, and
//! "is this address free?" (RFC 5227 probes, RFC 4862 DAD).

use crate::{
    DropReason, Sandbox,
    frame::{Frame, LINK_LEN, V6_LEN, v6},
    synthetic::fold,
};

/// A truthful ARP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpRequest {
    /// Who asks.
    pub sender: [u8; 4],
    /// For which address.
    pub target: [u8; 4],
}

/// The length of an ARP reply, Ethernet header included.
pub const ARP_REPLY_LEN: usize = 42;

/// The length of a neighbour advertisement with its one option, Ethernet header included.
pub const NEIGHBOUR_ADVERT_LEN: usize = 86;

const ARP_LEN: usize = 28;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Ethernet, IPv4, lengths 6 and 4, and the upper byte of the operation.
const ARP_PREFIX: [u8; 7] = [0, 1, 8, 0, 6, 4, 0];

/// What an ARP frame of a sandbox is.
pub(crate) enum Arp {
    Request(ArpRequest),
    /// The sandbox's truthful answer to the host.
    Reply,
}

#[inline(always)]
pub(crate) fn arp(frame: &impl Frame, sandbox: &Sandbox) -> Result<Arp, DropReason> {
    let body: [u8; ARP_LEN] = frame.load(LINK_LEN).ok_or(DropReason::Runt)?;
    let [
        p0,
        p1,
        p2,
        p3,
        p4,
        p5,
        p6,
        operation,
        h0,
        h1,
        h2,
        h3,
        h4,
        h5,
        s0,
        s1,
        s2,
        s3,
        _,
        _,
        _,
        _,
        _,
        _,
        t0,
        t1,
        t2,
        t3,
    ] = body;
    let (sender, target) = ([s0, s1, s2, s3], [t0, t1, t2, t3]);
    if [p0, p1, p2, p3, p4, p5, p6] != ARP_PREFIX || [h0, h1, h2, h3, h4, h5] != sandbox.mac {
        return Err(DropReason::Arp);
    }
    let probe = sender == [0; 4];
    if !probe && !sandbox.owns_v4(sender) {
        return Err(DropReason::Arp);
    }
    match operation {
        REQUEST if probe || sandbox.owns_v4(target) => Err(DropReason::AddressProbe),
        REQUEST => Ok(Arp::Request(ArpRequest { sender, target })),
        REPLY if !probe => Ok(Arp::Reply),
        _ => Err(DropReason::Arp),
    }
}

/// The frame that tells the sandbox that the gateway has the address.
#[inline(always)]
pub fn arp_reply(request: ArpRequest, sandbox: &Sandbox) -> [u8; ARP_REPLY_LEN] {
    let [d0, d1, d2, d3, d4, d5] = sandbox.mac;
    let [g0, g1, g2, g3, g4, g5] = sandbox.gateway_mac;
    let [t0, t1, t2, t3] = request.target;
    let [s0, s1, s2, s3] = request.sender;
    [
        d0, d1, d2, d3, d4, d5, g0, g1, g2, g3, g4, g5, 8, 6, // link
        0, 1, 8, 0, 6, 4, 0, REPLY, // kind
        g0, g1, g2, g3, g4, g5, t0, t1, t2, t3, // sender
        d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, // target
    ]
}

/// A truthful neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourSolicit {
    /// Who asks.
    pub source: [u8; 16],
    /// For which address.
    pub target: [u8; 16],
}

/// What a neighbour discovery message of a sandbox is.
pub(crate) enum Discovery {
    Solicit(NeighbourSolicit),
    /// The sandbox's truthful answer to the host.
    Advert,
}

const SOLICIT: u8 = 135;
const ADVERT: u8 = 136;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const ICMP: usize = LINK_LEN + V6_LEN;
/// Type, code, checksum, reserved, target.
const SOLICIT_LEN: usize = 24;
const OPTION_LEN: usize = 8;

#[inline(always)]
pub(crate) fn discovery(frame: &impl Frame, sandbox: &Sandbox) -> Result<Discovery, DropReason> {
    let ip = v6(frame)?;
    let [kind, code]: [u8; 2] = frame.load(ICMP).ok_or(DropReason::Runt)?;
    if kind != SOLICIT && kind != ADVERT {
        return Err(DropReason::Protocol);
    }
    if code != 0 || ip.hop_limit != 255 || ip.payload < SOLICIT_LEN {
        return Err(DropReason::Neighbour);
    }
    let target: [u8; 16] = frame.load(ICMP + 8).ok_or(DropReason::Runt)?;
    if kind == ADVERT {
        return advert(frame, sandbox, ip.payload, &target);
    }
    if target[0] == 0xff {
        return Err(DropReason::Neighbour);
    }
    if ip.source == [0; 16] || sandbox.owns_v6(&target) {
        return Err(DropReason::AddressProbe);
    }
    if !(sandbox.owns_v6(&ip.source) || link_local(&ip.source)) {
        return Err(DropReason::Neighbour);
    }
    truthful_option(frame, sandbox, ip.payload, SOURCE_LINK_ADDRESS)?;
    Ok(Discovery::Solicit(NeighbourSolicit {
        source: ip.source,
        target,
    }))
}

#[inline(always)]
fn advert(
    frame: &impl Frame,
    sandbox: &Sandbox,
    payload: usize,
    target: &[u8; 16],
) -> Result<Discovery, DropReason> {
    if !sandbox.owns_v6(target) {
        return Err(DropReason::Neighbour);
    }
    truthful_option(frame, sandbox, payload, TARGET_LINK_ADDRESS)?;
    Ok(Discovery::Advert)
}

/// There is no option, or one, which gives the sandbox's own hardware address.
#[inline(always)]
fn truthful_option(
    frame: &impl Frame,
    sandbox: &Sandbox,
    payload: usize,
    wanted: u8,
) -> Result<(), DropReason> {
    if payload == SOLICIT_LEN {
        return Ok(());
    }
    if payload != SOLICIT_LEN + OPTION_LEN {
        return Err(DropReason::Neighbour);
    }
    let [kind, length, a, b, c, d, e, f]: [u8; OPTION_LEN] =
        frame.load(ICMP + SOLICIT_LEN).ok_or(DropReason::Runt)?;
    let truthful = kind == wanted && length == 1 && [a, b, c, d, e, f] == sandbox.mac;
    truthful.then_some(()).ok_or(DropReason::Neighbour)
}

/// `fe80::/10`: which one is the sandbox's own choice, and goes nowhere.
pub(crate) fn link_local(address: &[u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

/// The frame that tells the sandbox that the gateway has the address.
#[inline(always)]
pub fn neighbour_advert(
    solicit: &NeighbourSolicit,
    sandbox: &Sandbox,
) -> [u8; NEIGHBOUR_ADVERT_LEN] {
    let mut frame = [0; NEIGHBOUR_ADVERT_LEN];
    frame[..6].copy_from_slice(&sandbox.mac);
    frame[6..12].copy_from_slice(&sandbox.gateway_mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    // Version 6, 32 bytes of ICMPv6 (58), hop limit 255 as RFC 4861 demands.
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame[22..38].copy_from_slice(&solicit.target);
    frame[38..54].copy_from_slice(&solicit.source);
    // Router, solicited, override.
    frame[54..62].copy_from_slice(&[ADVERT, 0, 0, 0, 0xe0, 0, 0, 0]);
    frame[62..78].copy_from_slice(&solicit.target);
    frame[78..80].copy_from_slice(&[TARGET_LINK_ADDRESS, 1]);
    frame[80..86].copy_from_slice(&sandbox.gateway_mac);
    let checksum = !fold(advert_sum(solicit, &sandbox.gateway_mac));
    frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The sum of an advertisement and its pseudo header, the checksum being zero.
#[inline(always)]
fn advert_sum(solicit: &NeighbourSolicit, mac: &[u8; 6]) -> u32 {
    let [a, b, c, d, e, f] = *mac;
    // The target stands in it twice: as the source and in the message. The
    // constants are the length, the next header, type, flags and the option's head.
    2 * words(&solicit.target)
        + words(&solicit.source)
        + (32 + 58 + 0x8800 + 0xe000 + 0x0201)
        + u32::from(u16::from_be_bytes([a, b]))
        + u32::from(u16::from_be_bytes([c, d]))
        + u32::from(u16::from_be_bytes([e, f]))
}

#[inline(always)]
fn words(address: &[u8; 16]) -> u32 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    u32::from(u16::from_be_bytes([a, b]))
        + u32::from(u16::from_be_bytes([c, d]))
        + u32::from(u16::from_be_bytes([e, f]))
        + u32::from(u16::from_be_bytes([g, h]))
        + u32::from(u16::from_be_bytes([i, j]))
        + u32::from(u16::from_be_bytes([k, l]))
        + u32::from(u16::from_be_bytes([m, n]))
        + u32::from(u16::from_be_bytes([o, p]))
}
