//! The steering decisions, case by case.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]
#![expect(dead_code, reason = "the frames are shared with other tests")]

mod frames;

use ersatz_ebpf_common::{
    Destination, DropReason as Reason, Family, Inbound, Return, Segment, Transport, Verdict,
    arp_reply, flags, inbound, ingress, neighbour_advert, restored_v4, restored_v6, returning,
    synthetic_v4, synthetic_v6,
};
use frames::*;

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OTHER_V4: [u8; 4] = [100, 64, 0, 3];

fn decided(frame: &[u8]) -> Verdict {
    ingress(&Bytes(frame), &sandbox(5, flags::ADMITTED))
}

#[test]
fn steers_tcp_and_dns_and_nothing_else() {
    let steered = |family, transport| Verdict::Steer(Segment { family, transport });
    let cases = [
        (
            "SYN",
            tcp_v4(443, SYN),
            steered(Family::V4, Transport::Open),
        ),
        (
            "SYN",
            tcp_v6(443, SYN),
            steered(Family::V6, Transport::Open),
        ),
        (
            "ACK",
            tcp_v4(1, ACK),
            steered(Family::V4, Transport::Segment),
        ),
        (
            "FIN ACK",
            tcp_v6(1, FIN | ACK),
            steered(Family::V6, Transport::Segment),
        ),
        (
            "SYN ACK",
            tcp_v4(1, SYN | ACK),
            steered(Family::V4, Transport::Segment),
        ),
        (
            "RST",
            tcp_v4(1, RST),
            steered(Family::V4, Transport::Segment),
        ),
        (
            "PSH ACK",
            tcp_v6(9, PSH | ACK),
            steered(Family::V6, Transport::Segment),
        ),
        (
            "ECN setup",
            tcp_v4(443, SYN | 0xc0),
            steered(Family::V4, Transport::Open),
        ),
        ("DNS", udp_v4(53), steered(Family::V4, Transport::Dns)),
        ("DNS", udp_v6(53), steered(Family::V6, Transport::Dns)),
        (
            "DNS over TCP",
            tcp_v4(53, SYN),
            steered(Family::V4, Transport::Open),
        ),
    ];
    for (name, frame, expected) in cases {
        assert_eq!(decided(&frame), expected, "{name}");
    }
}

#[test]
#[rustfmt::skip]
fn drops_what_is_no_plain_packet() {
    drops(&[
        ("runt", tcp_v4(443, SYN)[..13].to_vec(), Reason::Runt),
        ("cut IPv4", tcp_v4(443, SYN)[..30].to_vec(), Reason::Runt),
        ("cut IPv6", tcp_v6(443, SYN)[..50].to_vec(), Reason::Runt),
        ("802.1Q", outward(0x8100, &tagged()), Reason::Vlan),
        ("802.1ad", outward(0x88a8, &tagged()), Reason::Vlan),
        ("foreign MAC", ethernet(GATEWAY_MAC, OTHER_MAC, 0x0800, &ipv4(V4, WORLD_V4, TCP, &syn())), Reason::LinkSource),
        ("to a group", ethernet([0xff; 6], MAC, 0x0800, &ipv4(V4, WORLD_V4, TCP, &syn())), Reason::LinkDestination),
        ("LLDP", outward(0x88cc, &[0; 40]), Reason::EtherType),
        ("MPLS", outward(0x8847, &[0; 40]), Reason::EtherType),
        ("802.3 length", outward(38, &[0; 40]), Reason::EtherType),
        ("IPv4 in IPv6's ethertype", outward(0x86dd, &[&ipv4(V4, WORLD_V4, TCP, &syn())[..], &[0; 20]].concat()), Reason::Malformed),
        ("IHL too small", changed(tcp_v4(443, SYN), 14, 0x44), Reason::Malformed),
        ("options", changed(tcp_v4(443, SYN), 14, 0x46), Reason::Options),
        ("total length beyond the frame", changed(tcp_v4(443, SYN), 17, 0xff), Reason::Malformed),
        ("total length below TCP's header", changed(tcp_v4(443, SYN), 17, 39), Reason::Malformed),
        ("TCP's header beyond the packet", changed(tcp_v4(443, SYN), 46, 0x60), Reason::Malformed),
        ("TCP's header too small", changed(tcp_v4(443, SYN), 46, 0x40), Reason::Malformed),
        ("payload length beyond the frame", changed(tcp_v6(443, SYN), 19, 0xff), Reason::Malformed),
        ("UDP length beyond the packet", changed(udp_v4(53), 39, 0xff), Reason::Malformed),
        ("UDP length below its header", changed(udp_v6(53), 59, 7), Reason::Malformed),
        ("first fragment", changed(tcp_v4(443, SYN), 20, 0x20), Reason::Fragment),
        ("later fragment", changed(tcp_v4(443, SYN), 21, 1), Reason::Fragment),
        ("reserved flag", changed(tcp_v4(443, SYN), 20, 0x80), Reason::Fragment),
        ("IPv6 fragment", out_v6(V6, WORLD_V6, 44, &[6; 40]), Reason::Fragment),
        ("hop-by-hop", out_v6(V6, WORLD_V6, 0, &[6; 40]), Reason::ExtensionHeader),
        ("routing", out_v6(V6, WORLD_V6, 43, &[6; 40]), Reason::ExtensionHeader),
        ("destination options", out_v6(V6, WORLD_V6, 60, &[6; 40]), Reason::ExtensionHeader),
        ("ESP", out_v6(V6, WORLD_V6, 50, &[6; 40]), Reason::ExtensionHeader),
    ]);
}

#[test]
#[rustfmt::skip]
fn drops_foreign_addresses_and_other_protocols() {
    drops(&[
        ("foreign IPv4", out_v4(OTHER_V4, WORLD_V4, TCP, &syn()), Reason::Source),
        ("no IPv4", out_v4([0; 4], WORLD_V4, TCP, &syn()), Reason::Source),
        ("a synthetic address", out_v4(synthetic_v4(1, OTHER_V4), WORLD_V4, TCP, &syn()), Reason::Source),
        ("foreign IPv6", out_v6(WORLD_V6, V6, TCP, &syn()), Reason::Source),
        ("no IPv6", out_v6([0; 16], WORLD_V6, TCP, &syn()), Reason::Source),
        ("loopback", out_v4(V4, [127, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("unspecified", out_v4(V4, [0; 4], TCP, &syn()), Reason::Destination),
        ("multicast", out_v4(V4, [224, 0, 0, 1], UDP, &udp(1, 53, b"")), Reason::Destination),
        ("broadcast", out_v4(V4, [255; 4], UDP, &udp(1, 53, b"")), Reason::Destination),
        ("a synthetic destination", out_v4(V4, [240, 1, 2, 3], TCP, &syn()), Reason::Destination),
        ("IPv6 loopback", out_v6(V6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("IPv4-mapped", out_v6(V6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("IPv6 multicast", out_v6(V6, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("link-local", out_v6(V6, [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("ICMP", out_v4(V4, WORLD_V4, ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]), Reason::Protocol),
        ("SCTP", out_v4(V4, WORLD_V4, 132, &[0; 20]), Reason::Protocol),
        ("GRE", out_v4(V4, WORLD_V4, 47, &[0; 20]), Reason::Protocol),
        ("IP in IP", out_v4(V4, WORLD_V4, 4, &[0; 20]), Reason::Protocol),
        ("UDP-Lite", out_v6(V6, WORLD_V6, 136, &[0; 20]), Reason::Protocol),
        ("echo request", out_v6(V6, WORLD_V6, ICMP_V6, &[128, 0, 0, 0, 0, 0, 0, 0]), Reason::Protocol),
        ("router advertisement", out_v6(V6, WORLD_V6, ICMP_V6, &[134, 0, 0, 0, 0, 0, 0, 0]), Reason::Protocol),
        ("redirect", out_v6(V6, WORLD_V6, ICMP_V6, &[137, 0, 0, 0, 0, 0, 0, 0]), Reason::Protocol),
    ]);
}

#[test]
#[rustfmt::skip]
fn drops_scans_and_false_neighbours() {
    drops(&[
        ("QUIC", udp_v4(443), Reason::UdpPort),
        ("mDNS", udp_v6(5353), Reason::UdpPort),
        ("null scan", tcp_v4(443, 0), Reason::TcpFlags),
        ("FIN scan", tcp_v4(443, FIN), Reason::TcpFlags),
        ("Xmas scan", tcp_v4(443, FIN | PSH | URG), Reason::TcpFlags),
        ("SYN FIN", tcp_v4(443, SYN | FIN), Reason::TcpFlags),
        ("SYN RST", tcp_v6(443, SYN | RST), Reason::TcpFlags),
        ("port 0", tcp_v4(0, SYN), Reason::TcpFlags),
        ("ARP with a foreign sender", arp(1, MAC, OTHER_V4, WORLD_V4), Reason::Arp),
        ("ARP with a foreign MAC", arp(1, OTHER_MAC, V4, WORLD_V4), Reason::Arp),
        ("ARP reply, not asked for", arp(2, MAC, V4, WORLD_V4), Reason::Arp),
        ("RARP", arp(3, MAC, V4, WORLD_V4), Reason::Arp),
        ("ARP probe", arp(1, MAC, [0; 4], V4), Reason::AddressProbe),
        ("gratuitous ARP", arp(1, MAC, V4, V4), Reason::AddressProbe),
        ("DAD", discovery(135, [0; 16], V6, None, 255), Reason::AddressProbe),
        ("NS for itself", solicit(V6, V6), Reason::AddressProbe),
        ("NS from a foreigner", solicit(WORLD_V6, V6), Reason::AddressProbe),
        ("NS from a foreigner for the world", solicit([0x20; 16], WORLD_V6), Reason::Neighbour),
        ("NS with a foreign MAC", discovery(135, V6, WORLD_V6, Some((1, OTHER_MAC)), 255), Reason::Neighbour),
        ("NS from afar", discovery(135, V6, WORLD_V6, Some((1, MAC)), 64), Reason::Neighbour),
        ("NS for a group", solicit(V6, [0xff; 16]), Reason::Neighbour),
        ("NA for the gateway", discovery(136, V6, WORLD_V6, Some((2, MAC)), 255), Reason::Neighbour),
        ("NA, not asked for", discovery(136, V6, V6, Some((2, MAC)), 255), Reason::Neighbour),
    ]);
}

/// Compares the reasons; one frame a line.
fn drops(cases: &[(&str, Vec<u8>, Reason)]) {
    for (name, frame, expected) in cases {
        assert_eq!(decided(frame), Verdict::Drop(*expected), "{name}");
    }
}

#[test]
fn every_protocol_but_tcp_and_dns_is_dropped() {
    for protocol in 0..=255 {
        let v4 = outward(0x0800, &ipv4(V4, WORLD_V4, protocol, &[0x50; 60]));
        let v6 = outward(0x86dd, &ipv6(V6, WORLD_V6, protocol, 64, &[0x50; 60]));
        for frame in [v4, v6] {
            let steered = matches!(decided(&frame), Verdict::Steer(_));
            assert_eq!(steered, protocol == TCP, "{protocol}");
        }
    }
}

#[test]
fn every_ethertype_but_three_is_dropped() {
    for ethertype in 0..=u16::MAX {
        let frame = outward(ethertype, &[0; 60]);
        let Verdict::Drop(reason) = decided(&frame) else {
            panic!("{ethertype:#06x}");
        };
        let expected = match ethertype {
            0x0800 | 0x86dd => Reason::Malformed,
            0x0806 => Reason::Arp,
            0x8100 | 0x88a8 => Reason::Vlan,
            _ => Reason::EtherType,
        };
        assert_eq!(reason, expected, "{ethertype:#06x}");
    }
}

#[test]
fn answers_for_the_gateway() {
    let record = sandbox(5, flags::ADMITTED);
    let Verdict::AnswerArp(request) = decided(&arp(1, MAC, V4, WORLD_V4)) else {
        panic!("not answered");
    };
    let reply = arp_reply(request, &record);
    assert_eq!(reply[..14], ethernet(MAC, GATEWAY_MAC, 0x0806, &[])[..]);
    assert_eq!(reply[20..22], [0, 2]);
    assert_eq!(
        (&reply[22..28], &reply[28..32]),
        (&GATEWAY_MAC[..], &WORLD_V4[..])
    );
    assert_eq!((&reply[32..38], &reply[38..42]), (&MAC[..], &V4[..]));

    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    for source in [V6, link_local] {
        let Verdict::AnswerNeighbour(asked) = decided(&solicit(source, WORLD_V6)) else {
            panic!("not answered");
        };
        let advert = neighbour_advert(&asked, &record);
        let message = &advert[54..];
        let pseudo = [&WORLD_V6[..], &source, &[0, 0, 0, 32, 0, 0, 0, ICMP_V6]].concat();
        assert_eq!(checksum(&[&pseudo, message]), [0, 0], "the checksum");
        assert_eq!(advert[22..38], WORLD_V6);
        assert_eq!(advert[38..54], source);
        assert_eq!((message[0], message[4]), (136, 0xe0));
        assert_eq!(message[8..24], WORLD_V6);
        assert_eq!(message[24..], [&[2, 1][..], &GATEWAY_MAC].concat());
    }
}

#[test]
fn answers_to_the_host_pass_only_where_it_may_connect() {
    let open = sandbox(5, flags::INBOUND);
    for frame in [
        arp(2, MAC, V4, [100, 64, 0, 1]),
        discovery(136, V6, V6, Some((2, MAC)), 255),
    ] {
        assert_eq!(ingress(&Bytes(&frame), &open), Verdict::ToHost);
        assert!(matches!(decided(&frame), Verdict::Drop(_)));
    }
    for lie in [
        arp(2, OTHER_MAC, V4, [100, 64, 0, 1]),
        arp(2, MAC, OTHER_V4, [100, 64, 0, 1]),
        discovery(136, V6, WORLD_V6, Some((2, MAC)), 255),
        discovery(136, V6, V6, Some((2, OTHER_MAC)), 255),
    ] {
        assert!(matches!(ingress(&Bytes(&lie), &open), Verdict::Drop(_)));
    }
}

#[test]
fn the_host_may_open_connections_where_the_record_says_so() {
    let to_sandbox = |flags| {
        ethernet(
            MAC,
            GATEWAY_MAC,
            0x0800,
            &ipv4(WORLD_V4, V4, TCP, &tcp(7000, 80, flags)),
        )
    };
    let open = sandbox(5, flags::INBOUND);
    let Inbound::Record(flow) = inbound(&Bytes(&to_sandbox(SYN)), &open, true) else {
        panic!("not recorded");
    };
    assert_eq!(
        inbound(&Bytes(&to_sandbox(ACK)), &open, true),
        Inbound::IfRecorded(flow)
    );
    // The sandbox's answer has the same flow.
    let answer = outward(0x0800, &ipv4(V4, WORLD_V4, TCP, &tcp(80, 7000, SYN | ACK)));
    let Verdict::Steer(segment) = ingress(&Bytes(&answer), &open) else {
        panic!("dropped");
    };
    assert_eq!(segment.flow(&Bytes(&answer), 5), Some(flow));

    let dropped = Inbound::Drop(Reason::Inbound);
    let closed = sandbox(5, flags::ADMITTED);
    assert_eq!(inbound(&Bytes(&to_sandbox(SYN)), &closed, true), dropped);
    assert_eq!(
        inbound(&Bytes(&to_sandbox(SYN)), &open, false),
        dropped,
        "forwarded"
    );
    for (name, frame) in [
        (
            "UDP",
            ethernet(
                MAC,
                GATEWAY_MAC,
                0x0800,
                &ipv4(WORLD_V4, V4, UDP, &udp(53, 53, b"")),
            ),
        ),
        (
            "ICMP",
            ethernet(MAC, GATEWAY_MAC, 0x0800, &ipv4(WORLD_V4, V4, ICMP, &[8; 8])),
        ),
        (
            "ICMPv6 echo",
            ethernet(
                MAC,
                GATEWAY_MAC,
                0x86dd,
                &ipv6(WORLD_V6, V6, ICMP_V6, 64, &[128; 8]),
            ),
        ),
        (
            "router advertisement",
            ethernet(
                MAC,
                GATEWAY_MAC,
                0x86dd,
                &ipv6(WORLD_V6, V6, ICMP_V6, 255, &[134; 16]),
            ),
        ),
        ("LLDP", ethernet(MAC, GATEWAY_MAC, 0x88cc, &[0; 30])),
    ] {
        assert_eq!(inbound(&Bytes(&frame), &open, true), dropped, "{name}");
    }
    assert_eq!(
        inbound(&Bytes(&arp(1, MAC, V4, WORLD_V4)), &open, true),
        Inbound::Pass
    );
}

#[test]
fn what_leaves_the_gate_finds_its_sandbox() {
    let record = sandbox(5, flags::ADMITTED);
    let gate = |ethertype, packet: &[u8]| ethernet([2; 6], [3; 6], ethertype, packet);
    let (v4, v6) = (synthetic_v4(9, V4), synthetic_v6(9, record.epoch, &V6));
    let cases = [
        (
            "TCP",
            gate(0x0800, &ipv4(WORLD_V4, v4, TCP, &tcp(443, 1, ACK))),
            Ok(Destination::V4(v4)),
        ),
        (
            "DNS",
            gate(0x0800, &ipv4(WORLD_V4, v4, UDP, &udp(53, 1, b""))),
            Ok(Destination::V4(v4)),
        ),
        (
            "TCP",
            gate(0x86dd, &ipv6(WORLD_V6, v6, TCP, 64, &tcp(443, 1, ACK))),
            Ok(Destination::V6(v6)),
        ),
        (
            "a fragment",
            gate(0x86dd, &ipv6(WORLD_V6, v6, 44, 64, &[0; 16])),
            Ok(Destination::V6(v6)),
        ),
        (
            "ICMP",
            gate(0x0800, &ipv4(WORLD_V4, v4, ICMP, &[0; 8])),
            Err(Reason::ReturnProtocol),
        ),
        (
            "ICMPv6",
            gate(0x86dd, &ipv6(WORLD_V6, v6, 58, 64, &[0; 8])),
            Err(Reason::ReturnProtocol),
        ),
        ("ARP", gate(0x0806, &[0; 28]), Err(Reason::ReturnProtocol)),
        (
            "a real address",
            gate(0x0800, &ipv4(WORLD_V4, V4, TCP, &tcp(443, 1, ACK))),
            Err(Reason::ReturnAddress),
        ),
        (
            "a real address",
            gate(0x86dd, &ipv6(WORLD_V6, V6, TCP, 64, &tcp(443, 1, ACK))),
            Err(Reason::ReturnAddress),
        ),
    ];
    for (name, frame, expected) in cases {
        let expected = expected.map(|destination| Return {
            slot: 9,
            destination,
        });
        assert_eq!(returning(&Bytes(&frame)), expected, "{name}");
    }
    assert_eq!(restored_v4(&record, 9, v4), Some(V4));
    assert_eq!(restored_v6(&record, 9, &v6), Some(&V6));
    let free = ersatz_ebpf_common::Sandbox::FREE;
    assert_eq!(restored_v4(&free, 9, v4), None, "a free slot");
    assert_eq!(
        restored_v6(&record, 9, &synthetic_v6(9, 76, &V6)),
        None,
        "an earlier use"
    );
    assert_eq!(
        restored_v4(&record, 9, synthetic_v4(9, OTHER_V4)),
        None,
        "an address it has not"
    );
}
