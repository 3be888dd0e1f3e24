//! Many connections, each to the right destination.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

use ersatz_steering::DropReason;

use crate::{
    frames::{SYN, Wire, tcp_v4},
    node::{Node, Sandbox, greeted, received_packets},
};

#[test]
fn three_thousand_at_once_each_reach_their_destination() {
    nofile();
    Node::new().with_daemon(async |daemon| {
        let (sandbox, enrolled) = daemon.sandbox().await;
        let started = Instant::now();
        let id = enrolled.id.to_string();
        inside(&sandbox, async move {
            let mut opening = JoinSet::new();
            for number in 0..3000 {
                opening.spawn(open(destination(number), id.clone()));
            }
            // All are open before the first closes.
            let open: Vec<_> = opening.join_all().await;
            let mut verifying = JoinSet::new();
            for stream in open {
                verifying.spawn(verify(stream));
            }
            verifying.join_all().await;
        })
        .await;
        println!("3,000 at once: {:?}", started.elapsed());
        assert_eq!(daemon.seen.lock().unwrap().len(), 3000);
        assert_eq!(received_packets(), 0);
        daemon.end().await;
    });
}

#[test]
fn twenty_thousand_in_a_row_each_reach_their_destination() {
    nofile();
    Node::new().with_daemon(async |daemon| {
        let (sandbox, enrolled) = daemon.sandbox().await;
        let started = Instant::now();
        let id = enrolled.id.to_string();
        let slowest = inside(&sandbox, async move {
            let permits = Arc::new(Semaphore::new(32));
            let mut running = JoinSet::new();
            let mut slowest = Duration::ZERO;
            for number in 0..20_000 {
                let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
                let id = id.clone();
                running.spawn(async move {
                    let _permit = permit;
                    let started = Instant::now();
                    drop(open(destination(number), id).await);
                    started.elapsed()
                });
                while let Some(took) = running.try_join_next() {
                    slowest = slowest.max(took.unwrap());
                }
            }
            slowest.max(running.join_all().await.into_iter().max().unwrap())
        })
        .await;
        println!(
            "20,000 in a row: {:?}, the slowest {slowest:?}",
            started.elapsed()
        );
        assert_eq!(daemon.seen.lock().unwrap().len(), 20_000);
        assert_eq!(received_packets(), 0);
        daemon.end().await;
    });
}

/// Both families by turns, addresses and ports that all differ.
fn destination(number: u32) -> SocketAddr {
    let port = 1000 + u16::try_from(number % 50_000).unwrap();
    if number.is_multiple_of(2) {
        (IpAddr::from(Ipv4Addr::from(0x0808_0000 + number)), port).into()
    } else {
        let address = (0x2001_0db8 << 96) + u128::from(number);
        (IpAddr::from(Ipv6Addr::from(address)), port).into()
    }
}

async fn open(destination: SocketAddr, id: String) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(TcpStream::connect(destination).await.unwrap());
    let mut greeting = String::new();
    stream.read_line(&mut greeting).await.unwrap();
    assert_eq!(greeting.trim(), format!("{id} {destination}"));
    stream
}

async fn verify(mut stream: BufReader<TcpStream>) {
    let own = stream.get_ref().local_addr().unwrap().port();
    let payload: Vec<u8> = own.to_be_bytes().repeat(2000);
    let mut echo = vec![0; payload.len()];
    stream.write_all(&payload).await.unwrap();
    stream.read_exact(&mut echo).await.unwrap();
    assert!(echo == payload);
}

/// Runs a future inside the sandbox, on a thread with a runtime of its own.
async fn inside<T: Send + 'static>(
    sandbox: &Sandbox,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let namespace = sandbox.netns();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _ = sender.send(runtime.block_on(work));
    });
    receiver.await.expect("the work inside the sandbox")
}

/// Each connection has a descriptor here on both sides.
fn nofile() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384).max(soft), hard).unwrap();
}

#[test]
fn a_flood_of_openings_costs_the_neighbour_little() {
    Node::new().with_daemon(async |daemon| {
        let (flooder, _) = daemon.sandbox().await;
        let (neighbour, _) = daemon.sandbox().await;
        let flood = flooder.run(|| {
            let wire = Wire::open("eth0");
            for number in 0..FLOOD {
                let [high, low] = number.to_be_bytes();
                let mut frame = tcp_v4(443, SYN);
                frame[34..36].copy_from_slice(&[high | 0x40, low]);
                wire.send(&frame);
            }
        });
        let slowest = neighbour.run(|| {
            let times = (0..200).map(|_| {
                let started = Instant::now();
                greeted("192.0.2.1:443".parse().unwrap()).unwrap();
                started.elapsed()
            });
            times.max().unwrap()
        });
        let ((), slowest) = tokio::join!(flood, slowest);
        println!("the neighbour's slowest connection beside a flood: {slowest:?}");
        assert!(
            slowest < Duration::from_millis(900),
            "a SYN was lost: {slowest:?}"
        );
        assert!(daemon.dropped(DropReason::Budget) > 0);
        daemon.end().await;
    });
}

/// Frames; a third more than the budget has at once.
const FLOOD: u16 = 45_000;
