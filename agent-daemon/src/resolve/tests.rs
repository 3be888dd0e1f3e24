use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name as DnsName, RData, Record, RecordType, rdata},
};
use rstest::rstest;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::sleep,
};

use super::{upstream::Files, *};

const ONE: SandboxKey = SandboxKey(1);
const OTHER: SandboxKey = SandboxKey(2);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("a name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A server of names on loopback. Which answer a name gets is in its first label.
struct Server {
    addr: SocketAddr,
    queries: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        let addr = socket.local_addr().expect("an address");
        let queries = Arc::new(AtomicUsize::new(0));
        tokio::spawn(answer_all(Arc::new(socket), Arc::clone(&queries)));
        Self { addr, queries }
    }

    /// Serves TCP as well, and answers there in the case of the question.
    async fn start_with_tcp() -> Self {
        let server = Self::start().await;
        let listener = TcpListener::bind(server.addr).await.expect("the same port");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_stream(stream));
            }
        });
        server
    }

    fn asked(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

async fn answer_stream(mut stream: TcpStream) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await.expect("a query");
        let query = Message::from_vec(&query).expect("a query");
        let (_, mut reply) = reply(&query).expect("an answer");
        reply.queries.clone_from(&query.queries);
        let octets = reply.to_vec().expect("a message");
        stream
            .write_u16(octets.len().try_into().expect("a length"))
            .await
            .expect("sent");
        stream.write_all(&octets).await.expect("sent");
    }
}

async fn answer_all(socket: Arc<UdpSocket>, queries: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let query = Message::from_vec(&buffer[..length]).expect("a query");
        queries.fetch_add(1, Ordering::SeqCst);
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            if let Some((delay, mut reply)) = reply(&query) {
                sleep(delay).await;
                if reply.answers.len() > 40 {
                    reply = reply.truncate();
                }
                let octets = reply.to_vec().expect("a message");
                socket.send_to(&octets, peer).await.expect("sent");
            }
        });
    }
}

fn reply(query: &Message) -> Option<(Duration, Message)> {
    let asked = query.queries.first()?.clone();
    let (qname, qtype) = (asked.name().clone(), asked.query_type());
    let label = String::from_utf8(qname.iter().next()?.to_vec())
        .ok()?
        .to_ascii_lowercase();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_available = true;
    reply.add_query(asked);
    if label == "lower-case" {
        reply.queries[0].name = reply.queries[0].name().to_lowercase();
    }
    let mut delay = Duration::ZERO;
    let v4 = qtype == RecordType::A;
    let ttl = if label.starts_with("short") { 0 } else { 3600 };
    match label.as_str() {
        "both" | "short" | "lower-case" => _ = reply.add_answer(address(&qname, v4, 1, ttl)),
        "too-many" => _ = reply.add_answers((0..200).map(|last| address(&qname, v4, last, ttl))),
        "many" => _ = reply.add_answers((0..40).map(|last| address(&qname, v4, last, ttl))),
        "four" | "half" if v4 => _ = reply.add_answer(address(&qname, v4, 1, ttl)),
        "alias" => {
            let target = DnsName::from_ascii("both.example.").expect("a name");
            let cname = RData::CNAME(rdata::CNAME(target.clone()));
            reply.add_answer(Record::from_rdata(qname, ttl, cname));
            reply.add_answer(address(&target, v4, 9, ttl));
        }
        "late" => {
            delay = Duration::from_millis(if v4 { 0 } else { 1500 });
            reply.add_answer(address(&qname, v4, 1, ttl));
        }
        "slow" => {
            delay = Duration::from_millis(300);
            reply.add_answer(address(&qname, v4, 1, ttl));
        }
        "half" | "failing" => reply.metadata.response_code = ResponseCode::ServFail,
        "refusing" => reply.metadata.response_code = ResponseCode::Refused,
        "silent" => return None,
        "four" | "empty" => {}
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    Some((delay, reply))
}

fn address(name: &DnsName, v4: bool, last: u8, ttl: u32) -> Record {
    let data = if v4 {
        RData::A(rdata::A::new(93, 184, 216, last))
    } else {
        RData::AAAA(rdata::AAAA::new(0x2606, 0x2800, 0, 0, 0, 0, 0, last.into()))
    };
    Record::from_rdata(name.clone(), ttl, data)
}

/// A resolver that asks `server` alone, with a hosts file of its own.
struct Node {
    resolver: Arc<Resolver>,
    directory: TempDir,
}

impl Node {
    fn new(servers: &[&Server], hosts: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("hosts"), hosts).expect("a file");
        let servers = servers.iter().map(|server| server.addr).collect();
        let upstream = Upstream::with_files(servers, files(directory.path()));
        Self {
            resolver: Arc::new(Resolver::with_upstream(upstream)),
            directory,
        }
    }

    async fn lookup(&self, text: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.resolver.lookup(ONE, &name(text)).await?;
        Ok(found.to_vec())
    }
}

fn files(directory: &Path) -> Files {
    Files {
        hosts: directory.join("hosts"),
        resolv_conf: directory.join("resolv.conf"),
    }
}

#[rstest]
#[case("both.example", &["2606:2800::1", "93.184.216.1"])]
#[case("four.example", &["93.184.216.1"])]
#[case("alias.example", &["2606:2800::9", "93.184.216.9"])]
#[tokio::test]
async fn gives_the_addresses_of_both_families(#[case] asked: &str, #[case] expected: &[&str]) {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    let expected: Vec<_> = expected.iter().map(|text| ip(text)).collect();
    assert_eq!(node.lookup(asked).await, Ok(expected));
}

#[tokio::test]
async fn gives_sixteen_addresses_at_most_of_both_families_in_turn() {
    let server = Server::start().await;
    let found = Node::new(&[&server], "")
        .lookup("many.example")
        .await
        .expect("addresses");
    assert_eq!(found.len(), 16);
    assert!(
        found
            .chunks(2)
            .all(|pair| pair[0].is_ipv6() && pair[1].is_ipv4())
    );
}

#[rstest]
#[case("absent.example", ResolveError::NotFound, Reason::NameNotFound)]
#[case("empty.example", ResolveError::NotFound, Reason::NameNotFound)]
#[case("failing.example", ResolveError::Failed, Reason::UpstreamUnreachable)]
#[case("refusing.example", ResolveError::Failed, Reason::UpstreamUnreachable)]
#[tokio::test]
async fn tells_what_is_absent_from_what_failed(
    #[case] asked: &str,
    #[case] error: ResolveError,
    #[case] reason: Reason,
) {
    let server = Server::start().await;
    assert_eq!(Node::new(&[&server], "").lookup(asked).await, Err(error));
    assert_eq!(error.reason(), reason);
}

#[tokio::test]
async fn one_family_is_enough_when_the_other_fails() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    assert_eq!(
        node.lookup("half.example").await,
        Ok(vec![ip("93.184.216.1")])
    );
}

#[tokio::test]
async fn does_not_wait_long_for_the_second_family() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    let begin = Instant::now();
    assert_eq!(
        node.lookup("late.example").await,
        Ok(vec![ip("93.184.216.1")])
    );
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn gives_up_a_silent_server_within_the_deadline() {
    let server = Server::start().await;
    let begin = Instant::now();
    let error = Node::new(&[&server], "").lookup("silent.example").await;
    assert!(
        matches!(error, Err(ResolveError::Timeout | ResolveError::Failed)),
        "{error:?}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn asks_the_next_server_when_one_is_dead() {
    let unbound = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a socket");
    let addr = unbound.local_addr().expect("an address");
    drop(unbound);
    let dead = Server {
        addr,
        queries: Arc::default(),
    };
    let server = Server::start().await;
    let node = Node::new(&[&dead, &server], "");
    assert!(node.lookup("both.example").await.is_ok());
}

#[tokio::test]
async fn asks_once_for_all_who_wait_and_keeps_the_answer() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    let asked = name("slow.example");
    let waiting = (0..50).map(|_| node.resolver.lookup(ONE, &asked));
    for found in futures_util::future::join_all(waiting).await {
        assert_eq!(found.expect("addresses").len(), 2);
    }
    assert_eq!(server.asked(), 2);
    assert!(node.lookup("slow.example").await.is_ok());
    assert_eq!((server.asked(), node.resolver.cached()), (2, 1));
}

#[tokio::test]
async fn keeps_a_no_too() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    for _ in 0..10 {
        assert_eq!(
            node.lookup("absent.example").await,
            Err(ResolveError::NotFound)
        );
    }
    assert_eq!(server.asked(), 2);
}

/// A forwarder that changes the case of a question looks like a forger over UDP, and is asked over TCP.
#[tokio::test]
async fn a_server_that_changes_the_case_is_asked_over_tcp() {
    let server = Server::start_with_tcp().await;
    let node = Node::new(&[&server], "");
    let begin = Instant::now();
    let found = node.lookup("lower-case.example").await;
    assert_eq!(found, Ok(vec![ip("2606:2800::1"), ip("93.184.216.1")]));
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_asked_for_over_tcp() {
    let server = Server::start_with_tcp().await;
    let found = Node::new(&[&server], "").lookup("too-many.example").await;
    assert_eq!(found.map(|addresses| addresses.len()), Ok(16));
}

/// A time to live of nothing is a second: a server cannot have us ask for every connection.
#[tokio::test]
async fn asks_again_when_the_time_to_live_is_over() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    for _ in 0..10 {
        assert!(node.lookup("short.example").await.is_ok());
    }
    assert_eq!(server.asked(), 2);
    sleep(Duration::from_millis(1050)).await;
    assert!(node.lookup("short.example").await.is_ok());
    assert_eq!(server.asked(), 4);
}

#[tokio::test]
async fn sandboxes_share_no_answer() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    for (sandbox, asked) in [(ONE, 2), (OTHER, 4), (ONE, 4)] {
        let found = node.resolver.lookup(sandbox, &name("both.example")).await;
        assert!(found.is_ok());
        assert_eq!(server.asked(), asked);
    }
    node.resolver.forget(ONE);
    assert!(node.lookup("both.example").await.is_ok());
    assert_eq!(server.asked(), 6);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_no_answer_with_it() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    let impatient = node.lookup("slow.example");
    assert!(timeout(Duration::from_millis(20), impatient).await.is_err());
    assert!(node.lookup("slow.example").await.is_ok());
    assert_eq!(server.asked(), 2);
}

/// What a sandbox can tell the world by names below an allowed wildcard is bounded by this.
#[tokio::test]
async fn bounds_how_many_names_a_sandbox_has_resolved() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "");
    let mut beyond = 0;
    for index in 0..300 {
        let found = node.lookup(&format!("data-{index}.example")).await;
        beyond += usize::from(found == Err(ResolveError::Overloaded));
    }
    assert!((50..=100).contains(&beyond), "{beyond}");
    assert!(server.asked() <= 2 * 250);
    let other = node.resolver.lookup(OTHER, &name("both.example")).await;
    assert!(other.is_ok());
}

#[tokio::test(start_paused = true)]
async fn keeps_no_more_names_than_its_bound() {
    let node = Node::new(&[], "");
    for index in 0..1500 {
        let found = node.lookup(&format!("{index}.example")).await;
        assert_eq!(found, Err(ResolveError::Failed));
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    assert_eq!(node.resolver.cached(), 1024);
}

#[tokio::test]
async fn remembers_no_more_sandboxes_than_its_bound() {
    let node = Node::new(&[], "192.0.2.7 known.example\n");
    for sandbox in 0..10_000 {
        let found = node
            .resolver
            .lookup(SandboxKey(sandbox), &name("known.example"))
            .await;
        assert!(found.is_ok());
    }
    assert_eq!(node.resolver.cached(), 8192);
}

#[tokio::test]
async fn the_hosts_file_comes_first() {
    let server = Server::start().await;
    let hosts =
        "127.0.0.1 localhost\n192.0.2.7 both.example BOTH2.example # a comment\n::7 six.example\n";
    let node = Node::new(&[&server], hosts);
    assert_eq!(node.lookup("both.example").await, Ok(vec![ip("192.0.2.7")]));
    assert_eq!(
        node.lookup("both2.example").await,
        Ok(vec![ip("192.0.2.7")])
    );
    assert_eq!(node.lookup("six.example").await, Ok(vec![ip("::7")]));
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn a_changed_hosts_file_is_read_again() {
    let server = Server::start().await;
    let node = Node::new(&[&server], "192.0.2.7 host.example\n");
    assert_eq!(node.lookup("host.example").await, Ok(vec![ip("192.0.2.7")]));
    fs::write(
        node.directory.path().join("hosts"),
        "192.0.2.88 host.example\n",
    )
    .expect("written");
    let changed = async {
        while node.lookup("host.example").await != Ok(vec![ip("192.0.2.88")]) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), changed)
        .await
        .expect("read again");
}

#[tokio::test]
async fn the_nodes_own_resolvers_are_read_from_resolv_conf() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = |text: &str| {
        fs::write(directory.path().join("resolv.conf"), text).expect("a file");
        Upstream::with_files(Vec::new(), files(directory.path())).current()
    };
    assert!(
        node("search example\nnameserver 192.0.2.53\noptions ndots:5\n")
            .resolver
            .is_some()
    );
    assert!(node("# nothing\n").resolver.is_none());
    assert!(node("\0\u{fffd}nameserver nonsense\n").resolver.is_none());
}

#[tokio::test]
async fn without_a_resolver_only_the_hosts_file_is_asked() {
    let node = Node::new(&[], "192.0.2.7 known.example\n");
    assert_eq!(
        node.lookup("known.example").await,
        Ok(vec![ip("192.0.2.7")])
    );
    assert_eq!(
        node.lookup("unknown.example").await,
        Err(ResolveError::Failed)
    );
}

#[tokio::test]
async fn a_file_that_is_too_long_is_not_read() {
    let node = Node::new(&[], "192.0.2.7 known.example\n");
    let hosts = node.directory.path().join("hosts");
    let file = fs::File::options()
        .append(true)
        .open(hosts)
        .expect("a file");
    file.set_len((16 << 20) + 1).expect("a long file");
    let changed = async {
        while node.lookup("known.example").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), changed)
        .await
        .expect("not read");
}
