//! Existing links, and connections that the node opens to a sandbox.
//!
//! The sandbox's link is made here as a container network would: a veth whose
//! host side has a route to the sandbox.

use std::{
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use ersatz_steering::{DropReason, LinkPins};

use crate::{
    frames::{GATEWAY_MAC, MAC, SYN, TCP, Wire, ethernet, ipv4, tcp},
    node::{DEADLINE, Daemon, Node, Sandbox, eventually, greeted},
};

const POD_V4: Ipv4Addr = Ipv4Addr::new(10, 88, 7, 7);
const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd88, 7, 0, 0, 0, 0, 0, 7);

#[test]
fn the_node_may_connect_and_nobody_else() {
    Node::new().with_daemon(async |daemon| {
        let pod = Pod::new("v-pod");
        let enrolled = pod.enrol(&daemon).await;
        let (_, greeting) = pod
            .sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        assert_eq!(greeting, format!("{} 192.0.2.1:443", enrolled.id));

        for address in [
            SocketAddr::from((POD_V4, 8080)),
            SocketAddr::from((POD_V6, 8080)),
        ] {
            let server = pod
                .sandbox
                .run(move || TcpListener::bind(address).unwrap())
                .await;
            let answering = pod.sandbox.run(move || {
                let (mut stream, _) = server.accept().unwrap();
                stream.write_all(b"alive").unwrap();
            });
            let probe = probe(address);
            let ((), said) = tokio::join!(answering, probe);
            assert_eq!(said, "alive", "{address}");
        }

        // What another sandbox sends to this one goes to the daemon.
        let (other, _) = daemon.sandbox().await;
        let (_, greeting) = other.run(|| greeted((POD_V4, 8080).into()).unwrap()).await;
        assert!(greeting.ends_with("10.88.7.7:8080"), "{greeting}");
        daemon.end().await;
    });
}

#[test]
fn what_the_node_forwards_or_sends_otherwise_is_dropped() {
    Node::new().with_daemon(async |daemon| {
        let pod = Pod::new("v-pod");
        pod.enrol(&daemon).await;
        let before = daemon.dropped(DropReason::Inbound);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"hello", (POD_V4, 9999)).unwrap();
        eventually("UDP was let in", || {
            daemon.dropped(DropReason::Inbound) > before
        })
        .await;

        // A stranger's SYN that the node forwards.
        ip(&[
            "link", "add", "v-world", "type", "veth", "peer", "name", "w-world",
        ]);
        for link in ["v-world", "w-world"] {
            ip(&["link", "set", link, "up"]);
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/v-world/rp_filter", "0").unwrap();
        let mac = mac_of("v-world");
        let before = daemon.dropped(DropReason::Inbound);
        let stranger = ethernet(
            mac,
            [2, 9, 9, 9, 9, 9],
            0x0800,
            &ipv4(
                [203, 0, 113, 5],
                POD_V4.octets(),
                TCP,
                &tcp(5000, 8080, SYN),
            ),
        );
        ip(&["route", "add", "203.0.113.0/24", "dev", "v-world"]);
        Wire::open("w-world").send(&stranger);
        eventually("a forwarded SYN was let in", || {
            daemon.dropped(DropReason::Inbound) > before
        })
        .await;
        daemon.end().await;
    });
}

#[test]
fn an_ended_link_is_reported_and_its_slot_freed() {
    Node::new().with_daemon(async |daemon| {
        let mut gone = daemon.steering.on_link_gone();
        let pod = Pod::new("v-pod");
        let enrolled = pod.enrol(&daemon).await;
        ip(&["link", "del", "v-pod"]);
        let ended = tokio::time::timeout(DEADLINE, gone.recv()).await.unwrap();
        assert_eq!(ended, Some(enrolled.id));
        daemon.steering.remove(enrolled.id).await.unwrap();

        // A sandbox whose namespace ends is reported as well.
        let (sandbox, enrolled) = daemon.sandbox().await;
        drop(sandbox);
        let ended = tokio::time::timeout(DEADLINE, gone.recv()).await.unwrap();
        assert_eq!(ended, Some(enrolled.id));
        daemon.steering.remove(enrolled.id).await.unwrap();
        daemon.end().await;
    });
}

#[test]
fn a_removed_sandbox_s_link_of_others_stays_shut() {
    Node::new().with_daemon(async |daemon| {
        let pod = Pod::new("v-pod");
        let enrolled = pod.enrol(&daemon).await;
        daemon.steering.remove(enrolled.id).await.unwrap();
        let before = daemon.dropped(DropReason::UnknownLink);
        let refused = pod
            .sandbox
            .run(|| {
                let destination = "192.0.2.1:443".parse().unwrap();
                TcpStream::connect_timeout(&destination, Duration::from_millis(200)).is_err()
            })
            .await;
        assert!(refused);
        assert!(daemon.dropped(DropReason::UnknownLink) > before);
        // And it can be enrolled again.
        let again = pod.enrol(&daemon).await;
        assert_ne!(again.id, enrolled.id);
        pod.sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        daemon.end().await;
    });
}

#[test]
fn a_link_cannot_be_enrolled_twice() {
    Node::new().with_daemon(async |daemon| {
        let pod = Pod::new("v-pod");
        pod.enrol(&daemon).await;
        assert!(
            daemon
                .steering
                .enrol_link(pod.ifindex, pins())
                .await
                .is_err()
        );
        assert!(
            daemon.steering.enrol_link(4_000_000, pins()).await.is_err(),
            "no such link"
        );
        daemon.end().await;
    });
}

/// A sandbox whose link somebody else made.
pub(crate) struct Pod {
    pub(crate) sandbox: Sandbox,
    pub(crate) ifindex: u32,
}

impl Pod {
    pub(crate) fn new(link: &str) -> Self {
        let sandbox = Sandbox::new();
        ip(&[
            "link",
            "add",
            link,
            "address",
            "02:e7:00:00:01:01",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            "02:e7:00:00:01:02",
            "netns",
            &sandbox.path(),
        ]);
        ip(&["addr", "add", "169.254.1.1/32", "dev", link]);
        ip(&["-6", "addr", "add", "fe80::1/64", "dev", link, "nodad"]);
        ip(&["link", "set", link, "up"]);
        ip(&["link", "set", "lo", "up"]);
        ip(&["addr", "replace", "192.0.2.200/32", "dev", "lo"]);
        ip(&[
            "-6",
            "addr",
            "replace",
            "2001:db8:ffff::1/128",
            "dev",
            "lo",
            "nodad",
        ]);
        ip(&["route", "add", "10.88.7.7/32", "dev", link]);
        ip(&["-6", "route", "add", "fd88:7::7/128", "dev", link]);
        let namespace = format!("--net={}", sandbox.path());
        let ip_inside =
            |arguments: &[&str]| run("nsenter", &[&[&namespace, "ip"][..], arguments].concat());
        ip_inside(&["addr", "add", "10.88.7.7/32", "dev", "eth0"]);
        ip_inside(&["-6", "addr", "add", "fd88:7::7/128", "dev", "eth0", "nodad"]);
        ip_inside(&["link", "set", "eth0", "up"]);
        ip_inside(&[
            "route",
            "add",
            "default",
            "via",
            "169.254.1.1",
            "dev",
            "eth0",
            "onlink",
        ]);
        ip_inside(&[
            "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "onlink",
        ]);
        let ifindex = nix::net::if_::if_nametoindex(link).unwrap();
        Self { sandbox, ifindex }
    }

    pub(crate) async fn enrol(&self, daemon: &Daemon) -> ersatz_steering::Enrolled {
        daemon
            .steering
            .enrol_link(self.ifindex, pins())
            .await
            .unwrap()
    }
}

fn pins() -> LinkPins {
    LinkPins {
        mac: MAC,
        v4: vec![POD_V4],
        v6: vec![POD_V6],
        gateway_mac: GATEWAY_MAC,
    }
}

/// Connects from the node and reads what the sandbox says.
async fn probe(address: SocketAddr) -> String {
    use tokio::io::AsyncReadExt as _;
    let connecting = tokio::net::TcpStream::connect(address);
    let mut stream = tokio::time::timeout(DEADLINE, connecting)
        .await
        .unwrap()
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

fn mac_of(link: &str) -> [u8; 6] {
    let output = Command::new("ip")
        .args(["-o", "link", "show", link])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mac = text.split("link/ether ").nth(1).unwrap();
    let bytes: Vec<u8> = mac
        .split(' ')
        .next()
        .unwrap()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// Plays the container network, in the namespace of the calling thread.
fn ip(arguments: &[&str]) {
    run("ip", arguments);
}

fn run(command: &str, arguments: &[&str]) {
    let output = Command::new(command).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {error}");
}
