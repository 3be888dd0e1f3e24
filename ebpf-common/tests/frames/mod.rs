//! Frames, right and wrong: builders, and a generator of both.

use ersatz_ebpf_common::{Frame, Sandbox, flags};
use proptest::prelude::*;

pub(crate) const MAC: [u8; 6] = [0x02, 0xe7, 0, 0, 1, 2];
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x02, 0xe7, 0, 0, 1, 1];
pub(crate) const V4: [u8; 4] = [100, 64, 0, 2];
pub(crate) const V6: [u8; 16] = [0xfd, 0, 0xe2, 0x5a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub(crate) const WORLD_V4: [u8; 4] = [198, 51, 100, 7];
pub(crate) const WORLD_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMP_V6: u8 = 58;
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;

/// The record of a sandbox with these addresses.
pub(crate) fn sandbox(ifindex: u32, flags: u32) -> Sandbox {
    let mut record = Sandbox {
        ifindex,
        epoch: 77,
        mac: MAC,
        gateway_mac: GATEWAY_MAC,
        flags,
        ..Sandbox::FREE
    };
    record.v4[0] = V4;
    record.v6[0] = V6;
    record
}

/// A frame in memory.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Frame for Bytes<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn vlan(&self) -> bool {
        false
    }
}

pub(crate) fn ethernet(
    destination: [u8; 6],
    source: [u8; 6],
    ethertype: u16,
    body: &[u8],
) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), body].concat()
}

/// A frame from the sandbox to its gateway.
pub(crate) fn outward(ethertype: u16, body: &[u8]) -> Vec<u8> {
    ethernet(GATEWAY_MAC, MAC, ethertype, body)
}

/// An IPv4 packet from the sandbox's hardware address.
pub(crate) fn out_v4(source: [u8; 4], destination: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
    outward(0x0800, &ipv4(source, destination, protocol, body))
}

/// An IPv6 packet from the sandbox's hardware address.
pub(crate) fn out_v6(source: [u8; 16], destination: [u8; 16], next: u8, body: &[u8]) -> Vec<u8> {
    outward(0x86dd, &ipv6(source, destination, next, 64, body))
}

/// The same frame with another value in one place.
pub(crate) fn changed(mut frame: Vec<u8>, place: usize, value: u8) -> Vec<u8> {
    frame[place] = value;
    frame
}

/// A request for a connection, without checksum.
pub(crate) fn syn() -> Vec<u8> {
    tcp(1, 443, SYN)
}

/// What stands behind a VLAN's ethertype: the tag, and a packet.
pub(crate) fn tagged() -> Vec<u8> {
    [&[0, 7, 8, 0][..], &ipv4(V4, WORLD_V4, TCP, &syn())].concat()
}

pub(crate) fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + body.len()).expect("a small packet");
    let [l0, l1] = total.to_be_bytes();
    let mut header = vec![0x45, 0, l0, l1, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    header.extend(source);
    header.extend(destination);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [&header[..], body].concat()
}

pub(crate) fn ipv6(
    source: [u8; 16],
    destination: [u8; 16],
    next: u8,
    hops: u8,
    body: &[u8],
) -> Vec<u8> {
    let [l0, l1] = u16::try_from(body.len())
        .expect("a small packet")
        .to_be_bytes();
    let header = [0x60, 0, 0, 0, l0, l1, next, hops];
    [&header[..], &source, &destination, body].concat()
}

pub(crate) fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.to_be_bytes());
    segment.extend(destination.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

pub(crate) fn udp(source: u16, destination: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    let length = u16::try_from(8 + body.len()).expect("a small datagram");
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(body);
    datagram
}

/// A TCP segment over IPv4 with right checksums, from the sandbox to the world.
pub(crate) fn tcp_v4(destination: u16, flags: u8) -> Vec<u8> {
    let mut segment = tcp(40_000, destination, flags);
    let pseudo = [&V4[..], &WORLD_V4, &[0, TCP, 0, 20]].concat();
    let sum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum);
    outward(0x0800, &ipv4(V4, WORLD_V4, TCP, &segment))
}

/// A TCP segment over IPv6 with right checksums, from the sandbox to the world.
pub(crate) fn tcp_v6(destination: u16, flags: u8) -> Vec<u8> {
    let mut segment = tcp(40_000, destination, flags);
    let pseudo = [&V6[..], &WORLD_V6, &[0, 0, 0, 20, 0, 0, 0, TCP]].concat();
    let sum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum);
    outward(0x86dd, &ipv6(V6, WORLD_V6, TCP, 64, &segment))
}

pub(crate) fn udp_v4(destination: u16) -> Vec<u8> {
    outward(
        0x0800,
        &ipv4(V4, WORLD_V4, UDP, &udp(40_000, destination, b"question")),
    )
}

pub(crate) fn udp_v6(destination: u16) -> Vec<u8> {
    outward(
        0x86dd,
        &ipv6(
            V6,
            WORLD_V6,
            UDP,
            64,
            &udp(40_000, destination, b"question"),
        ),
    )
}

pub(crate) fn arp(operation: u8, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &mac, &sender, &[0; 6], &target].concat();
    ethernet([0xff; 6], MAC, 0x0806, &body)
}

/// An `ICMPv6` message of neighbour discovery with one option.
pub(crate) fn discovery(
    kind: u8,
    source: [u8; 16],
    target: [u8; 16],
    option: Option<(u8, [u8; 6])>,
    hops: u8,
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    body.extend(target);
    if let Some((kind, mac)) = option {
        body.extend([kind, 1]);
        body.extend(mac);
    }
    let [.., x, y, z] = target;
    let mut group = [0; 16];
    group[..2].copy_from_slice(&[0xff, 2]);
    group[11..].copy_from_slice(&[1, 0xff, x, y, z]);
    let length = u8::try_from(body.len()).expect("a small message");
    let pseudo = [&source[..], &group, &[0, 0, 0, length, 0, 0, 0, ICMP_V6]].concat();
    let sum = checksum(&[&pseudo, &body]);
    body[2..4].copy_from_slice(&sum);
    let packet = ipv6(source, group, ICMP_V6, hops, &body);
    ethernet([0x33, 0x33, 0xff, x, y, z], MAC, 0x86dd, &packet)
}

pub(crate) fn solicit(source: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    discovery(135, source, target, Some((1, MAC)), 255)
}

/// The internet checksum (RFC 1071) of parts of even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).expect("16 bits").to_be_bytes()
}

/// Frames as a sandbox might send them: right ones, right ones with a few
/// bytes or their length changed, and noise.
pub(crate) fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let tcp_flags = prop_oneof![
        Just(SYN),
        Just(ACK),
        Just(SYN | ACK),
        Just(RST),
        any::<u8>()
    ];
    let port = prop_oneof![Just(53_u16), Just(443), Just(0), any::<u16>()];
    let right = prop_oneof![
        (port.clone(), tcp_flags.clone()).prop_map(|(port, flags)| tcp_v4(port, flags)),
        (port.clone(), tcp_flags).prop_map(|(port, flags)| tcp_v6(port, flags)),
        port.clone().prop_map(udp_v4),
        port.prop_map(udp_v6),
        prop_oneof![Just(WORLD_V4), Just(V4), Just([100, 64, 0, 1])]
            .prop_map(|target| arp(1, MAC, V4, target)),
        Just(arp(2, MAC, V4, [100, 64, 0, 1])),
        prop_oneof![Just(WORLD_V6), Just(V6)].prop_map(|target| solicit(V6, target)),
        Just(discovery(136, V6, V6, Some((2, MAC)), 255)),
        Just(discovery(135, [0; 16], WORLD_V6, None, 255)),
    ];
    let byte = prop_oneof![
        Just(0_u8),
        Just(1),
        Just(4),
        Just(0x45),
        Just(6),
        Just(17),
        any::<u8>()
    ];
    let edits = prop::collection::vec((0..90_usize, byte), 0..3);
    let altered = (
        right,
        edits,
        prop_oneof![4 => Just(0_isize), 1 => -60..60_isize],
    )
        .prop_map(|(mut frame, edits, longer)| {
            for (place, value) in edits {
                if let Some(byte) = frame.get_mut(place) {
                    *byte = value;
                }
            }
            let length = frame.len().saturating_add_signed(longer).max(14);
            frame.resize(length, 0);
            frame
        });
    prop_oneof![
        9 => altered,
        1 => prop::collection::vec(any::<u8>(), 14..120),
    ]
}

/// Records of sandboxes whose flags differ.
pub(crate) fn any_sandbox(ifindex: u32) -> impl Strategy<Value = Sandbox> {
    prop_oneof![
        Just(flags::ADMITTED),
        Just(flags::ADMITTED | flags::INBOUND),
        Just(0),
    ]
    .prop_map(move |flags| sandbox(ifindex, flags))
}
