//! Connections and questions arrive, with destination and identity.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::node::{DEADLINE, Node, echoes, greeted, received_packets};

const DESTINATIONS: [&str; 8] = [
    "1.2.3.4:443",
    "10.0.0.1:1",
    "169.254.169.254:80",
    "100.64.0.1:65535",
    "203.0.113.9:53",
    "[2001:db8::7]:8443",
    "[fd00:e25a:5::1]:443",
    "[2606:4700::1111]:53",
];

#[test]
fn connections_to_any_address_arrive_with_destination_and_identity() {
    Node::new().with_daemon(async |daemon| {
        let (sandbox, enrolled) = daemon.sandbox().await;
        for destination in DESTINATIONS {
            let destination: SocketAddr = destination.parse().unwrap();
            let (greeting, echoed) = sandbox
                .run(move || {
                    let (mut stream, greeting) = greeted(destination).unwrap();
                    (greeting, echoes(&mut stream, &vec![7; 100_000]))
                })
                .await;
            assert_eq!(greeting, format!("{} {destination}", enrolled.id));
            assert!(echoed, "{destination}");
        }
        assert_eq!(received_packets(), 0, "the node's stack saw a packet");
        daemon.end().await;
    });
}

#[test]
fn sandboxes_with_the_same_address_and_port_are_told_apart() {
    Node::new().with_daemon(async |daemon| {
        let (a, a_enrolled) = daemon.sandbox().await;
        let (b, b_enrolled) = daemon.sandbox().await;
        for destination in ["198.51.100.1:443", "[2001:db8::1]:443"] {
            let destination: SocketAddr = destination.parse().unwrap();
            let open = move || {
                let mut stream = from_port(33333, destination);
                let greeting = line(&mut stream);
                (stream, greeting)
            };
            let ((mut a_stream, a_greeting), (mut b_stream, b_greeting)) =
                tokio::join!(a.run(open), b.run(open));
            assert_eq!(a_greeting, format!("{} {destination}", a_enrolled.id));
            assert_eq!(b_greeting, format!("{} {destination}", b_enrolled.id));
            let (a_echo, b_echo) = tokio::join!(
                a.run(move || (0..20).all(|n| echoes(&mut a_stream, &[n; 1000]))),
                b.run(move || (0..20).all(|n| echoes(&mut b_stream, &[n | 0x80; 1000]))),
            );
            assert!(a_echo && b_echo);
        }
        daemon.end().await;
    });
}

#[test]
fn questions_are_answered_from_the_address_that_was_asked() {
    Node::new().with_daemon(async |daemon| {
        let (sandbox, enrolled) = daemon.sandbox().await;
        for server in [
            "8.8.8.8:53",
            "100.64.0.1:53",
            "[2001:db8::53]:53",
            "[fd00::1]:53",
        ] {
            let server: SocketAddr = server.parse().unwrap();
            // The larger answer leaves the gate in fragments.
            for more in [0, 3000] {
                let (from, reply) = sandbox.run(move || ask(server, more)).await;
                assert_eq!(from, server);
                let expected = format!("{} {}\n", enrolled.id, server.ip());
                assert!(reply.starts_with(&expected), "{reply:.60}");
                assert_eq!(reply.len(), expected.len() + more);
            }
        }
        assert_eq!(received_packets(), 0, "the node's stack saw a packet");
        daemon.end().await;
    });
}

#[test]
fn a_connection_outlives_the_enrolment_of_others() {
    Node::new().with_daemon(async |daemon| {
        let (sandbox, _) = daemon.sandbox().await;
        let (mut stream, _) = sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        for _ in 0..3 {
            let (_other, enrolled) = daemon.sandbox().await;
            daemon.steering.remove(enrolled.id).await.unwrap();
        }
        assert!(
            sandbox
                .run(move || echoes(&mut stream, b"still here"))
                .await
        );
        daemon.end().await;
    });
}

#[test]
fn a_removed_sandbox_reaches_nothing_and_is_nobody() {
    Node::new().with_daemon(async |daemon| {
        let (sandbox, enrolled) = daemon.sandbox().await;
        sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        daemon.steering.remove(enrolled.id).await.unwrap();
        let refused = sandbox
            .run(|| {
                let destination = "192.0.2.1:443".parse().unwrap();
                TcpStream::connect_timeout(&destination, Duration::from_millis(200)).is_err()
            })
            .await;
        assert!(refused);
        let again = daemon.steering.remove(enrolled.id).await;
        assert!(again.is_ok(), "removing twice is no error");
        // The same namespace may come back, as another sandbox.
        let next = daemon
            .steering
            .enrol_netns(sandbox.netns(), ersatz_steering::Adopt::IfKnown)
            .await
            .unwrap();
        assert!(!next.adopted);
        assert_ne!(next.id, enrolled.id);
        let (_, greeting) = sandbox
            .run(|| greeted("192.0.2.1:443".parse().unwrap()).unwrap())
            .await;
        assert_eq!(greeting, format!("{} 192.0.2.1:443", next.id));
        daemon.end().await;
    });
}

fn from_port(port: u16, destination: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let own: SocketAddr = if destination.is_ipv4() {
        ("100.64.0.2".parse::<std::net::IpAddr>().unwrap(), port).into()
    } else {
        ("fd00:e25a::2".parse::<std::net::IpAddr>().unwrap(), port).into()
    };
    socket.bind(&own.into()).unwrap();
    socket
        .connect_timeout(&destination.into(), DEADLINE)
        .unwrap();
    socket.into()
}

fn line(stream: &mut TcpStream) -> String {
    use std::io::Read as _;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}

fn ask(server: SocketAddr, more: usize) -> (SocketAddr, String) {
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
        .send_to(format!("{more:4}").as_bytes(), server)
        .unwrap();
    let mut reply = [0; 8192];
    let (length, from) = socket.recv_from(&mut reply).unwrap();
    (from, String::from_utf8(reply[..length].to_vec()).unwrap())
}
