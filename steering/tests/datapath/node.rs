//! A node, sandboxes on it, and a daemon that echoes.

use std::{
    fs::{self, File},
    future::Future,
    io::{self, IoSliceMut, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use ersatz_steering::{
    Adopt, Close, DropReason, Enrolled, InstanceName, Listeners, Options, SandboxId, Steering,
};
use nix::{
    cmsg_space,
    libc::{in_pktinfo, in6_pktinfo},
    sched::{CloneFlags, setns, unshare},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
        recvmsg, sendmsg,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{TcpListener, UdpSocket},
    runtime::Runtime,
};

/// How long anything may take that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A network namespace that plays the machine, and a place for its state.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) state: TempDir,
}

impl Node {
    /// Moves the calling thread, and all that it starts, into a new node.
    pub(crate) fn new() -> Self {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            panic!(
                "this test needs root to make network namespaces ({error}); run it with:\n\n    \
                 sudo -E cargo xtask test datapath\n"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            state: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn options(&self) -> Options {
        options(self.state.path(), InstanceName::node())
    }

    /// Runs `work` with a daemon that echoes, removed in the end.
    pub(crate) fn with_daemon<F: Future<Output = ()>>(self, work: impl FnOnce(Daemon) -> F) {
        self.runtime.block_on(async {
            let daemon = Daemon::start(self.options()).await;
            let steering = Arc::clone(&daemon.steering);
            work(daemon).await;
            let steering = Arc::into_inner(steering).expect("the daemon ended");
            steering.close(Close::Remove).await.unwrap();
        });
        assert_eq!(fs::read_dir(self.state.path()).unwrap().count(), 0);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        unmount_below(self.state.path());
    }
}

pub(crate) fn options(state: &Path, instance: InstanceName) -> Options {
    Options {
        instance,
        state_dir: state.to_owned(),
    }
}

/// Takes the mounts of failed tests away, so that their directory can go.
pub(crate) fn unmount_below(state: &Path) {
    for mount in mounts_below(state) {
        let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
    }
}

pub(crate) fn mounts_below(state: &Path) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(state))
        .collect()
}

/// What a connection or a question looked like from the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sandbox: Option<SandboxId>,
    pub(crate) destination: SocketAddr,
}

/// A daemon: it greets each connection with what it saw, then echoes.
pub(crate) struct Daemon {
    pub(crate) steering: Arc<Steering>,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Daemon {
    pub(crate) async fn start(options: Options) -> Self {
        let (steering, listeners) = Steering::start(options).await.unwrap();
        Self::serve(steering, listeners)
    }

    pub(crate) fn serve(steering: Steering, listeners: Listeners) -> Self {
        let steering = Arc::new(steering);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for listener in [listeners.tcp4, listeners.tcp6] {
            let listener = TcpListener::from_std(listener).unwrap();
            tasks.spawn(accept(
                listener,
                Arc::downgrade(&steering),
                Arc::clone(&seen),
            ));
        }
        for socket in [listeners.udp4, listeners.udp6] {
            let socket = UdpSocket::from_std(socket).unwrap();
            tasks.spawn(answer(socket, Arc::downgrade(&steering)));
        }
        Self {
            steering,
            seen,
            tasks,
        }
    }

    /// Makes a sandbox.
    pub(crate) async fn sandbox(&self) -> (Sandbox, Enrolled) {
        let sandbox = Sandbox::new();
        let enrolled = self
            .steering
            .enrol_netns(sandbox.netns(), Adopt::Never)
            .await
            .unwrap();
        (sandbox, enrolled)
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        dropped(&self.steering, reason)
    }

    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

pub(crate) fn dropped(steering: &Steering, reason: DropReason) -> u64 {
    let drops = steering.drops();
    drops
        .into_iter()
        .find(|(counted, _)| *counted == reason)
        .unwrap()
        .1
}

type WeakSteering = std::sync::Weak<Steering>;

async fn accept(listener: TcpListener, steering: WeakSteering, seen: Arc<Mutex<Vec<Seen>>>) {
    loop {
        let (mut stream, peer) = listener.accept().await.unwrap();
        let destination = stream.local_addr().unwrap();
        let Some(steering) = steering.upgrade() else {
            return;
        };
        let sandbox = steering.identify(peer.ip());
        seen.lock().unwrap().push(Seen {
            sandbox,
            destination,
        });
        tokio::spawn(async move {
            let sandbox = sandbox.map_or("nobody".to_owned(), |id| id.to_string());
            let greeting = format!("{sandbox} {destination}\n");
            if stream.write_all(greeting.as_bytes()).await.is_err() {
                return;
            }
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

/// Answers each datagram, from the address that was asked, with what it saw
/// and as many bytes more as the question's first four say.
async fn answer(socket: UdpSocket, steering: WeakSteering) {
    loop {
        let mut question = [0; 2048];
        let (peer, asked, length) = socket
            .async_io(Interest::READABLE, || receive(&socket, &mut question))
            .await
            .unwrap();
        let Some(steering) = steering.upgrade() else {
            return;
        };
        let peer_ip = match (peer.as_sockaddr_in(), peer.as_sockaddr_in6()) {
            (Some(peer), _) => IpAddr::V4(peer.ip()),
            (_, Some(peer)) => IpAddr::V6(peer.ip()),
            _ => unreachable!("an IP socket"),
        };
        let sandbox = steering
            .identify(peer_ip)
            .map_or("nobody".to_owned(), |id| id.to_string());
        let mut reply = format!("{sandbox} {asked}\n").into_bytes();
        let more: usize = std::str::from_utf8(&question[..length.min(4)])
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        reply.resize(reply.len() + more, b'.');
        send(&socket, &peer, asked, &reply).unwrap();
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(SockaddrStorage, IpAddr, usize)> {
    let mut space = cmsg_space!(in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::empty(),
    )?;
    let asked = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    Ok((message.address.unwrap(), asked.unwrap(), message.bytes))
}

fn send(socket: &UdpSocket, peer: &SockaddrStorage, from: IpAddr, bytes: &[u8]) -> io::Result<()> {
    let parts = [io::IoSlice::new(bytes)];
    let fd = socket.as_raw_fd();
    let none = MsgFlags::empty();
    match from {
        IpAddr::V4(from) => {
            let info = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: nix::libc::in_addr {
                    s_addr: u32::from_ne_bytes(from.octets()),
                },
                ipi_addr: nix::libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg::<SockaddrIn>(fd, &parts, &control, none, peer.as_sockaddr_in())?;
        }
        IpAddr::V6(from) => {
            let info = in6_pktinfo {
                ipi6_addr: nix::libc::in6_addr {
                    s6_addr: from.octets(),
                },
                ipi6_ifindex: 0,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg::<SockaddrIn6>(fd, &parts, &control, none, peer.as_sockaddr_in6())?;
        }
    }
    Ok(())
}

/// The network namespace of a sandbox.
pub(crate) struct Sandbox {
    namespace: OwnedFd,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap().into()
        });
        Self {
            namespace: made.join().unwrap(),
        }
    }

    pub(crate) fn netns(&self) -> OwnedFd {
        self.namespace.try_clone().unwrap()
    }

    /// A path by which another process can open the namespace.
    pub(crate) fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace.as_raw_fd()
        )
    }

    /// Runs `work` inside, on a thread, while the daemon goes on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = self.netns();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            let _ = sender.send(work());
        });
        receiver.await.expect("the work inside the sandbox")
    }
}

/// Connects, and gives the stream and what the daemon said that it saw.
pub(crate) fn greeted(destination: SocketAddr) -> io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&destination, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok((stream, String::from_utf8(line).unwrap().trim().to_owned()))
}

/// Sends `bytes` and compares the echo.
pub(crate) fn echoes(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut echo = vec![0; bytes.len()];
    stream.write_all(bytes).is_ok() && stream.read_exact(&mut echo).is_ok() && echo == bytes
}

/// Waits until `condition` holds; panics with `what` at the deadline.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How many IP packets the calling thread's namespace received, both families.
pub(crate) fn received_packets() -> u64 {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names
        .split(' ')
        .position(|name| name == "InReceives")
        .unwrap();
    let v4: u64 = values.split(' ').nth(place).unwrap().parse().unwrap();
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let v6 = v6
        .lines()
        .find(|line| line.starts_with("Ip6InReceives"))
        .unwrap();
    let v6: u64 = v6.split_whitespace().nth(1).unwrap().parse().unwrap();
    v4 + v6
}

/// How many IP packets the gate below `state` received.
pub(crate) fn gate_packets(state: &Path) -> u64 {
    let gate = File::open(state.join("node/gate")).unwrap();
    let counted = thread::spawn(move || {
        setns(gate, CloneFlags::CLONE_NEWNET).unwrap();
        received_packets()
    });
    counted.join().unwrap()
}
