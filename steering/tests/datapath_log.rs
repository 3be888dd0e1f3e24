//! The kernel programs' log arrives in tracing, and a sandbox cannot fill it.
//!
//! Apart from the other tests, as it needs the process's only subscriber.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::File,
    io::{self, Write},
    net::UdpSocket,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use ersatz_steering::{Adopt, Close, DropReason, InstanceName, Options, Steering};
use nix::sched::{CloneFlags, setns, unshare};

/// More than all CPUs together may log in the second or two that it takes.
const FRAMES: usize = 5000;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn drops_are_logged_by_name_but_only_a_few() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        panic!("this test needs root ({error}); run it with: sudo -E cargo xtask test datapath");
    }
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_env_filter("ersatz_steering::kernel=debug")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(flood(&lines));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let logged = text.matches("reason=\"udp-port\"").count();
    assert!((1..FRAMES / 10).contains(&logged), "{logged}: {text}");
}

async fn flood(lines: &Lines) {
    let state = tempfile::tempdir().unwrap();
    let options = Options {
        instance: InstanceName::node(),
        state_dir: state.path().to_owned(),
    };
    let (steering, _listeners) = Steering::start(options).await.unwrap();
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    });
    let sandbox: OwnedFd = made.join().unwrap();
    let inside = sandbox.try_clone().unwrap();
    steering.enrol_netns(sandbox, Adopt::Never).await.unwrap();
    let sending = thread::spawn(move || {
        setns(inside, CloneFlags::CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..FRAMES {
            socket.send_to(b"not for us", "192.0.2.1:443").unwrap();
        }
    });
    sending.join().unwrap();
    let dropped = || {
        let drops = steering.drops();
        let found = drops
            .iter()
            .find(|(reason, _)| *reason == DropReason::UdpPort);
        found.unwrap().1
    };
    let started = Instant::now();
    let logged = || String::from_utf8_lossy(&lines.0.lock().unwrap()).contains("udp-port");
    while dropped() < FRAMES as u64 || !logged() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{} were dropped",
            dropped()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    steering.close(Close::Remove).await.unwrap();
}
