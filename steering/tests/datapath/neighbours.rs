//! The sandbox's program is the only neighbour.

use std::time::Duration;

use crate::{
    frames::{GATEWAY_MAC, MAC, V4, V6, WORLD_V4, WORLD_V6, Wire, arp, discovery, solicit},
    node::Node,
};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(100);

#[test]
fn every_address_has_the_gateway_s_hardware_address() {
    Node::new().with_daemon(async |daemon| {
        let (sandbox, _) = daemon.sandbox().await;
        sandbox
            .run(|| {
                let wire = Wire::open("eth0");
                for target in [WORLD_V4, [100, 64, 0, 1], [10, 0, 0, 9], [100, 64, 0, 3]] {
                    wire.send(&arp(1, MAC, V4, target));
                    let reply = wire
                        .receive(PATIENCE, |frame| {
                            frame[12..14] == [8, 6]
                                && frame[20..22] == [0, 2]
                                && frame[28..32] == target
                        })
                        .expect("an ARP reply");
                    assert_eq!((&reply[..6], &reply[22..28]), (&MAC[..], &GATEWAY_MAC[..]));
                }
                for target in [WORLD_V6, [0xfe; 16]] {
                    // With and without the option that tells who asks (RFC 4861, 4.3).
                    for frame in [solicit(V6, target), discovery(135, V6, target, None, 255)] {
                        wire.send(&frame);
                        let advert = wire
                            .receive(PATIENCE, |frame| {
                                frame[12..14] == [0x86, 0xdd] && frame.get(54) == Some(&136)
                            })
                            .expect("a neighbour advertisement");
                        assert_eq!(advert[62..78], target);
                        assert_eq!(advert[80..86], GATEWAY_MAC);
                    }
                }
            })
            .await;
        daemon.end().await;
    });
}

#[test]
fn nobody_has_the_sandbox_s_own_address() {
    Node::new().with_daemon(async |daemon| {
        let (sandbox, _) = daemon.sandbox().await;
        sandbox
            .run(|| {
                let wire = Wire::open("eth0");
                for question in [
                    arp(1, MAC, [0; 4], V4),
                    arp(1, MAC, V4, V4),
                    solicit(V6, V6),
                    discovery(135, [0; 16], V6, None, 255),
                ] {
                    wire.send(&question);
                    let answered = wire.receive(SILENCE, |frame| {
                        let reply = frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
                        let advert = frame[12..14] == [0x86, 0xdd] && frame.get(54) == Some(&136);
                        reply || advert
                    });
                    assert_eq!(answered, None);
                }
            })
            .await;
        daemon.end().await;
    });
}
