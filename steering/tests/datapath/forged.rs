//! Forged frames are dropped, each for its reason, and nobody sees them.

use ersatz_ebpf_common::{DropReason as Reason, synthetic_v4};

use crate::{
    frames::{
        ACK, FIN, GATEWAY_MAC, ICMP, ICMP_V6, MAC, PSH, SYN, TCP, UDP, URG, V4, V6, WORLD_V4,
        WORLD_V6, Wire, arp, changed, discovery, ethernet, ipv4, out_v4, out_v6, outward, solicit,
        syn, tagged, tcp_v4, tcp_v6, udp, udp_v4, udp_v6,
    },
    node::{Node, eventually, gate_packets, received_packets},
};

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OTHER_V4: [u8; 4] = [100, 64, 0, 3];
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

#[test]
fn forged_frames_are_dropped_and_counted_by_reason() {
    let node = Node::new();
    let state = node.state.path().to_owned();
    node.with_daemon(async |daemon| {
        let (sandbox, _) = daemon.sandbox().await;
        for (name, frame, reason) in forged() {
            let (counted, seen) = (daemon.dropped(reason), gate_packets(&state));
            sandbox.run(move || Wire::open("eth0").send(&frame)).await;
            eventually(name, || daemon.dropped(reason) > counted).await;
            assert_eq!(gate_packets(&state), seen, "{name} reached the gate");
        }
        assert_eq!(received_packets(), 0, "the node's stack saw a frame");
        assert!(daemon.seen.lock().unwrap().is_empty());
        daemon.end().await;
    });
}

/// One frame a line.
#[rustfmt::skip]
fn forged() -> Vec<(&'static str, Vec<u8>, Reason)> {
    vec![
        // The kernel takes the tag out before the program sees the frame.
        ("802.1Q", outward(0x8100, &tagged()), Reason::Vlan),
        ("802.1ad", outward(0x88a8, &tagged()), Reason::Vlan),
        ("foreign MAC", ethernet(GATEWAY_MAC, OTHER_MAC, 0x0800, &ipv4(V4, WORLD_V4, TCP, &syn())), Reason::LinkSource),
        ("broadcast TCP", ethernet([0xff; 6], MAC, 0x0800, &ipv4(V4, WORLD_V4, TCP, &syn())), Reason::LinkDestination),
        ("foreign IPv4", out_v4(OTHER_V4, WORLD_V4, TCP, &syn()), Reason::Source),
        ("another's synthetic IPv4", out_v4(synthetic_v4(1, OTHER_V4), WORLD_V4, TCP, &syn()), Reason::Source),
        ("foreign IPv6", out_v6(WORLD_V6, WORLD_V6, TCP, &syn()), Reason::Source),
        ("first fragment", changed(tcp_v4(443, SYN), 20, 0x20), Reason::Fragment),
        ("later fragment", changed(tcp_v4(443, SYN), 21, 3), Reason::Fragment),
        ("IPv6 fragment", out_v6(V6, WORLD_V6, 44, &[6; 40]), Reason::Fragment),
        ("IPv4 options", changed(tcp_v4(443, SYN), 14, 0x46), Reason::Options),
        ("hop-by-hop", out_v6(V6, WORLD_V6, 0, &[6; 40]), Reason::ExtensionHeader),
        ("destination options", out_v6(V6, WORLD_V6, 60, &[6; 40]), Reason::ExtensionHeader),
        ("routing header", out_v6(V6, WORLD_V6, 43, &[6; 40]), Reason::ExtensionHeader),
        ("QUIC", udp_v4(443), Reason::UdpPort),
        ("UDP over IPv6", udp_v6(1234), Reason::UdpPort),
        ("ping", out_v4(V4, WORLD_V4, ICMP, &[8; 8]), Reason::Protocol),
        ("IPv6 ping", out_v6(V6, WORLD_V6, ICMP_V6, &[128; 8]), Reason::Protocol),
        ("SCTP", out_v4(V4, WORLD_V4, 132, &[0; 20]), Reason::Protocol),
        ("GRE", out_v4(V4, WORLD_V4, 47, &[0; 20]), Reason::Protocol),
        ("IP in IP", out_v4(V4, WORLD_V4, 4, &[0; 20]), Reason::Protocol),
        ("router advertisement", out_v6(V6, ALL_NODES, ICMP_V6, &[134; 16]), Reason::Protocol),
        ("redirect", out_v6(V6, WORLD_V6, ICMP_V6, &[137; 40]), Reason::Protocol),
        ("to loopback", out_v4(V4, [127, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("DNS to a group", out_v4(V4, [224, 0, 0, 251], UDP, &udp(1, 53, b"?")), Reason::Destination),
        ("to a synthetic address", out_v4(V4, [240, 0, 0, 1], TCP, &syn()), Reason::Destination),
        ("null scan", tcp_v4(443, 0), Reason::TcpFlags),
        ("FIN scan", tcp_v6(443, FIN), Reason::TcpFlags),
        ("Xmas scan", tcp_v4(443, FIN | PSH | URG), Reason::TcpFlags),
        ("SYN FIN", tcp_v4(443, SYN | FIN), Reason::TcpFlags),
        ("lying length", changed(tcp_v4(443, ACK), 17, 0xff), Reason::Malformed),
        ("lying IPv6 length", changed(tcp_v6(443, ACK), 19, 0xff), Reason::Malformed),
        ("ARP with a foreign sender", arp(1, MAC, OTHER_V4, WORLD_V4), Reason::Arp),
        ("ARP with a foreign MAC", arp(1, OTHER_MAC, V4, WORLD_V4), Reason::Arp),
        ("ARP reply", arp(2, MAC, V4, WORLD_V4), Reason::Arp),
        ("NA for the gateway", discovery(136, V6, WORLD_V6, Some((2, MAC)), 255), Reason::Neighbour),
        ("NA, foreign MAC", discovery(136, V6, V6, Some((2, OTHER_MAC)), 255), Reason::Neighbour),
        ("NS, foreign MAC", discovery(135, V6, WORLD_V6, Some((1, OTHER_MAC)), 255), Reason::Neighbour),
        ("NS from afar", discovery(135, V6, WORLD_V6, Some((1, MAC)), 64), Reason::Neighbour),
        ("NS, foreign source", solicit([0x20; 16], WORLD_V6), Reason::Neighbour),
        ("LLDP", outward(0x88cc, &[0; 46]), Reason::EtherType),
        ("STP", ethernet([1, 0x80, 0xc2, 0, 0, 0], MAC, 38, &[0x42; 46]), Reason::EtherType),
        ("runt", outward(0x0800, &[0x45; 6]), Reason::Runt),
    ]
}
