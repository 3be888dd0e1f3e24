//! The daemon is killed: silence, and the next one takes over.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use ersatz_steering::{Adopt, Close, InstanceName, Kept, Steering};

use crate::node::{
    DEADLINE, Daemon, Node, Sandbox, echoes, eventually, greeted, mounts_below, options,
    received_packets,
};

const STATE: &str = "ERSATZ_TEST_STATE";
const INSTANCE: &str = "ERSATZ_TEST_INSTANCE";
const SANDBOX: &str = "ERSATZ_TEST_SANDBOX";

#[test]
fn killed_means_silence_and_the_next_daemon_takes_over() {
    let node = Node::new();
    let sandbox = Sandbox::new();
    let (mut first, born) = Process::spawn(&node, "node", &sandbox);
    assert!(!born.adopted);
    node.runtime.block_on(async {
        let (mut stream, greeting) = sandbox
            .run(|| greeted(WORLD_V4.parse().unwrap()).unwrap())
            .await;
        assert_eq!(greeting, format!("{} {WORLD_V4}", born.id));
        first.kill();
        assert!(!sandbox.run(move || echoes(&mut stream, b"anybody?")).await);
        assert!(sandbox.run(silent).await, "something answered");
        assert_eq!(received_packets(), 0, "the node's stack saw a packet");

        // A connection that is asked for now waits, and succeeds.
        let patient = sandbox.run(|| {
            let (mut stream, greeting) = greeted(WORLD_V6.parse().unwrap()).unwrap();
            assert!(echoes(&mut stream, b"late"));
            greeting
        });
        let started = Instant::now();
        let (second, reborn) = Process::spawn(&node, "node", &sandbox);
        let outage = started.elapsed();
        assert!(outage < Duration::from_secs(1), "ready after {outage:?}");
        assert_eq!(
            (reborn.adopted, reborn.kept.as_str()),
            (true, "the same authority")
        );
        assert_eq!(reborn.id, born.id);
        assert_eq!(patient.await, format!("{} {WORLD_V6}", born.id));
        println!(
            "the next daemon was ready after {outage:?}, of which to start: {}",
            reborn.ready
        );
        drop(second);
    });
    finish(&node);
}

#[test]
fn a_sandbox_that_nobody_enrols_again_stays_silent() {
    let node = Node::new();
    let sandbox = Sandbox::new();
    let (mut first, _) = Process::spawn(&node, "node", &sandbox);
    first.kill();
    node.runtime.block_on(async {
        let daemon = Daemon::start(node.options()).await;
        assert!(sandbox.run(silent).await);
        assert!(daemon.dropped(ersatz_steering::DropReason::NotAdmitted) > 0);
        assert_eq!(daemon.seen.lock().unwrap().len(), 0);
        daemon.end().await;
    });
    finish(&node);
}

#[test]
fn a_sandbox_that_ended_meanwhile_is_forgotten() {
    let node = Node::new();
    let sandbox = Sandbox::new();
    let (mut first, _) = Process::spawn(&node, "node", &sandbox);
    first.kill();
    drop(sandbox);
    node.runtime.block_on(async {
        // The namespace ends soon after its last descriptor.
        eventually("the link outlived its namespace", || {
            !links().iter().any(|name| name.starts_with("ez"))
        })
        .await;
        let daemon = Daemon::start(node.options()).await;
        let (_sandbox, enrolled) = daemon.sandbox().await;
        assert!(enrolled.id.epoch() > 1, "an identity came twice");
        daemon.end().await;
    });
    finish(&node);
}

#[test]
fn remains_of_a_dead_run_are_removed_and_a_live_one_is_left_alone() {
    let node = Node::new();
    let (dead_sandbox, live_sandbox) = (Sandbox::new(), Sandbox::new());
    let (mut dead, _) = Process::spawn(&node, "7001", &dead_sandbox);
    let (_live, live) = Process::spawn(&node, "7002", &live_sandbox);
    dead.kill();
    let remains = |links: &[String]| links.iter().any(|name| name.contains("7001"));
    assert!(remains(&links()));
    node.runtime.block_on(async {
        let run = options(node.state.path(), InstanceName::run(7003));
        let daemon = Daemon::start(run).await;
        assert!(!remains(&links()), "{:?}", links());
        let gone = |name: &str| !node.state.path().join(name).exists();
        assert!(gone("run-7001") && !gone("run-7002"));
        let (_, greeting) = live_sandbox
            .run(|| greeted(WORLD_V4.parse().unwrap()).unwrap())
            .await;
        assert_eq!(greeting, format!("{} {WORLD_V4}", live.id));
        let steering = std::sync::Arc::clone(&daemon.steering);
        daemon.end().await;
        let steering = std::sync::Arc::into_inner(steering).unwrap();
        steering.close(Close::Remove).await.unwrap();
        assert!(gone("run-7003"));
    });
}

#[test]
fn kill_and_restart_again_and_again_leaves_nothing_behind() {
    let node = Node::new();
    let sandbox = Sandbox::new();
    let mut identity = None;
    for _ in 0..10 {
        let (mut process, born) = Process::spawn(&node, "node", &sandbox);
        assert_eq!(*identity.get_or_insert_with(|| born.id.clone()), born.id);
        process.kill();
    }
    assert_eq!(links().iter().filter(|name| *name != "lo").count(), 2);
    finish(&node);
    assert_eq!(links().iter().filter(|name| *name != "lo").count(), 0);
    assert_eq!(
        mounts_below(node.state.path()),
        Vec::<std::path::PathBuf>::new()
    );
}

/// Takes the instance over once more, to remove it.
fn finish(node: &Node) {
    node.runtime.block_on(async {
        let (steering, _) = Steering::start(node.options()).await.unwrap();
        steering.close(Close::Remove).await.unwrap();
    });
}

/// Whether nothing answers: TCP and DNS of both families.
fn silent() -> bool {
    let patience = Duration::from_millis(300);
    let connects = [WORLD_V4, WORLD_V6].into_iter().any(|destination| {
        let destination: SocketAddr = destination.parse().unwrap();
        TcpStream::connect_timeout(&destination, patience).is_ok()
    });
    let answers = ["8.8.8.8:53", "[2001:db8::53]:53"]
        .into_iter()
        .any(|server| {
            let any = if server.starts_with('[') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.send_to(b"   0", server).unwrap();
            socket.recv_from(&mut [0; 64]).is_ok()
        });
    !connects && !answers
}

fn links() -> Vec<String> {
    // Read by a thread of this namespace.
    let listing = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    listing
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

const WORLD_V4: &str = "198.51.100.7:443";
const WORLD_V6: &str = "[2001:db8::7]:443";

/// A daemon in a process of its own, killed when dropped.
struct Process {
    child: Child,
    _output: BufReader<ChildStdout>,
}

/// What the process said of itself.
struct Born {
    id: String,
    adopted: bool,
    kept: String,
    ready: String,
}

impl Process {
    /// Starts this test binary again, as a daemon that enrols the sandbox.
    fn spawn(node: &Node, instance: &str, sandbox: &Sandbox) -> (Self, Born) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::as_a_daemon",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(STATE, node.state.path())
            .env(INSTANCE, instance)
            .env(SANDBOX, sandbox.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let born = loop {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the daemon ended");
            if let Some((_, said)) = line.split_once("born|") {
                let mut said = said.trim().split('|').map(str::to_owned);
                break Born {
                    id: said.next().unwrap(),
                    adopted: said.next().unwrap() == "true",
                    kept: said.next().unwrap(),
                    ready: said.next().unwrap(),
                };
            }
        };
        let process = Self {
            child,
            _output: output,
        };
        (process, born)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what [`Process::spawn`] runs.
#[test]
fn as_a_daemon() {
    let Ok(state) = std::env::var(STATE) else {
        return;
    };
    let instance = match std::env::var(INSTANCE).unwrap().parse() {
        Ok(pid) => InstanceName::run(pid),
        Err(_) => InstanceName::node(),
    };
    let netns: OwnedFd = File::open(std::env::var(SANDBOX).unwrap()).unwrap().into();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let started = Instant::now();
        let daemon = Daemon::start(options(state.as_ref(), instance)).await;
        let ready = started.elapsed();
        let kept = daemon.steering.kept(Kept::Ca).unwrap_or_default();
        daemon
            .steering
            .keep(Kept::Ca, b"the same authority")
            .unwrap();
        let enrolled = daemon
            .steering
            .enrol_netns(netns, Adopt::IfKnown)
            .await
            .unwrap();
        let kept = String::from_utf8(kept).unwrap();
        println!("born|{}|{}|{kept}|{ready:?}", enrolled.id, enrolled.adopted);
        std::io::stdout().flush().unwrap();
        tokio::time::sleep(DEADLINE * 6).await;
    });
}
