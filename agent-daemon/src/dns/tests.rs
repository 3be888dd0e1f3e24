use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name as DnsName, RData, Record, RecordType, rdata},
};
use proptest::prelude::*;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::UdpSocket,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Transport, answer},
    *,
};

mod flood;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// One sandbox's view: `allowed.example` and all below it.
#[derive(Default)]
struct Sandbox {
    synthetic: Synthetic,
    limits: Limits,
    refused: Mutex<Vec<(String, String, Reason)>>,
    answered: Mutex<usize>,
}

impl View for Sandbox {
    fn resolves(&self, name: &Name) -> bool {
        name.as_str() == "allowed.example" || name.as_str().ends_with(".allowed.example")
    }

    fn synthetic(&self) -> &Synthetic {
        &self.synthetic
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn refused(&self, name: &str, qtype: &str, reason: Reason) {
        let refusal = (name.to_owned(), qtype.to_owned(), reason);
        self.refused.lock().expect("no panic").push(refusal);
    }

    fn answered(&self) {
        *self.answered.lock().expect("no panic") += 1;
    }
}

impl Sandbox {
    fn refusals(&self) -> Vec<(String, String, Reason)> {
        self.refused.lock().expect("no panic").clone()
    }

    /// What `query` is answered, over UDP.
    fn ask(&self, query: &Message) -> Message {
        let octets = answer(self, &query.to_vec().expect("a query"), Transport::Udp);
        Message::from_vec(&octets.expect("an answer")).expect("a message")
    }
}

/// One sandbox for every peer in loopback, none for the rest.
struct Loopback(Arc<Sandbox>);

impl Zones for Loopback {
    fn sandbox(&self, peer: IpAddr) -> Option<Arc<dyn View>> {
        let sandbox: Arc<dyn View> = Arc::clone(&self.0) as _;
        peer.is_loopback().then_some(sandbox)
    }
}

fn question(name: &str, qtype: RecordType) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(
        DnsName::from_ascii(name).expect("a name"),
        qtype,
    ));
    query
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    answer
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect()
}

#[rstest]
#[case("allowed.example.", RecordType::A)]
#[case("allowed.example.", RecordType::AAAA)]
#[case("a.b.allowed.example.", RecordType::A)]
#[case("ALLOWED.eXample.", RecordType::A)]
fn answers_an_allowed_name_with_an_address_that_leads_back(
    #[case] name: &str,
    #[case] qtype: RecordType,
) {
    let sandbox = Sandbox::default();
    let query = question(name, qtype);
    let reply = sandbox.ask(&query);
    assert_eq!(reply.metadata.id, 4711);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available);
    // Case and all: a client that mixes the case of its question wants it back.
    assert!(reply.queries[0].name().eq_case(query.queries[0].name()));
    let [record] = reply.answers.as_slice() else {
        panic!("one record: {reply}")
    };
    assert_eq!((record.ttl, record.record_type()), (30, qtype));
    let addr = record.data.ip_addr().expect("an address");
    let back = sandbox.synthetic.name(addr).expect("a name");
    assert_eq!(
        back.as_str(),
        name.trim_end_matches('.').to_ascii_lowercase()
    );
    assert_eq!(*sandbox.answered.lock().expect("no panic"), 1);
    assert_eq!(sandbox.refusals(), []);
}

#[rstest]
fn an_allowed_name_has_no_other_records(
    #[values(
        RecordType::TXT,
        RecordType::MX,
        RecordType::CNAME,
        RecordType::NS,
        RecordType::SOA,
        RecordType::SRV,
        RecordType::HTTPS,
        RecordType::SVCB,
        RecordType::PTR,
        RecordType::NULL,
        RecordType::CAA,
        RecordType::TLSA,
        RecordType::NAPTR,
        RecordType::Unknown(99)
    )]
    qtype: RecordType,
) {
    let reply = Sandbox::default().ask(&question("allowed.example.", qtype));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(reply.answers, []);
    assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
}

#[rstest]
#[case("denied.example.", "denied.example.")]
#[case("example.", "example.")]
#[case("notallowed.example.", "notallowed.example.")]
#[case("allowed.example.cluster.local.", "allowed.example.cluster.local.")]
#[case("localhost.", "localhost.")]
#[case("metadata.google.internal.", "metadata.google.internal.")]
#[case("1.0.18.198.in-addr.arpa.", "1.0.18.198.in-addr.arpa.")]
#[case(
    "secret-data-in-a-label.evil.example.",
    "secret-data-in-a-label.evil.example."
)]
fn a_denied_name_does_not_exist(#[case] name: &str, #[case] recorded: &str) {
    let sandbox = Sandbox::default();
    for (qtype, text) in [
        (RecordType::A, "A"),
        (RecordType::TXT, "TXT"),
        (RecordType::Unknown(777), "TYPE777"),
    ] {
        let reply = sandbox.ask(&question(name, qtype));
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.answers, []);
        let [soa] = reply.authorities.as_slice() else {
            panic!("an SOA, so that clients keep the answer")
        };
        assert!(matches!(&soa.data, RData::SOA(soa) if soa.minimum == 5) && soa.ttl == 5);
        let refusal = (recorded.to_owned(), text.to_owned(), Reason::HostNotAllowed);
        assert_eq!(sandbox.refusals().pop(), Some(refusal));
    }
    assert!(sandbox.synthetic.is_empty());
}

/// A dot inside of a label must not become a dot between labels.
#[rstest]
#[case(b"x.allowed|example")]
#[case(b"allowed.example")]
#[case(b"allowed\0|allowed|example")]
#[case(b"a b|allowed|example")]
#[case(b"\xff|allowed|example")]
#[case(b"*|allowed|example")]
#[case(b"allowed|example|127")]
fn a_name_that_is_none_does_not_exist(#[case] labels: &[u8]) {
    let sandbox = Sandbox::default();
    let mut query = question(".", RecordType::A);
    query.queries[0]
        .set_name(DnsName::from_labels(labels.split(|octet| *octet == b'|')).expect("labels"));
    let reply = sandbox.ask(&query);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(sandbox.refusals()[0].2, Reason::ServerNameInvalid);
}

#[test]
fn the_root_exists_and_has_nothing() {
    let reply = Sandbox::default().ask(&question(".", RecordType::NS));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(reply.answers, []);
}

/// Whatever the type: an answer is an address, or no answer.
#[test]
fn no_type_gives_anything_but_addresses() {
    for code in 0..=u16::MAX {
        let sandbox = Sandbox::default();
        let qtype = RecordType::from(code);
        let reply = sandbox.ask(&question("allowed.example.", qtype));
        let expected = match code {
            251 | 252 | 255 => ResponseCode::Refused,
            0 | 41 | 128..=250 | 253..=254 => ResponseCode::NotImp,
            _ => ResponseCode::NoError,
        };
        assert_eq!(reply.metadata.response_code, expected, "type {code}");
        assert_eq!(
            reply.answers.len(),
            usize::from([1, 28].contains(&code)),
            "type {code}"
        );
    }
}

#[rstest]
#[case::chaos(DNSClass::CH)]
#[case::hesiod(DNSClass::HS)]
#[case::none(DNSClass::NONE)]
#[case::any(DNSClass::ANY)]
fn other_classes_are_refused(#[case] class: DNSClass) {
    let sandbox = Sandbox::default();
    let mut query = question("version.bind.", RecordType::TXT);
    query.queries[0].set_query_class(class);
    assert_eq!(
        sandbox.ask(&query).metadata.response_code,
        ResponseCode::Refused
    );
    assert_eq!(sandbox.refusals()[0].2, Reason::ProtocolNotAllowed);
}

#[test]
fn other_operations_are_not_implemented() {
    for code in (0..16).filter(|code| *code != 0) {
        let mut query = question("allowed.example.", RecordType::A);
        query.metadata.op_code = OpCode::from_u8(code);
        let reply = Sandbox::default().ask(&query);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::NotImp,
            "operation {code}"
        );
    }
}

fn record() -> Record {
    Record::from_rdata(DnsName::root(), 1, RData::A(rdata::A(Ipv4Addr::LOCALHOST)))
}

#[rstest]
#[case::no_question(&|query: &mut Message| query.queries.clear())]
#[case::two_questions(&|query: &mut Message| { let again = query.queries[0].clone(); query.add_query(again); })]
#[case::an_answer(&|query: &mut Message| { query.add_answer(record()); })]
#[case::an_authority(&|query: &mut Message| { query.add_authority(record()); })]
#[case::five_additionals(&|query: &mut Message| { query.add_additionals(vec![record(); 5]); })]
fn a_query_of_another_shape_is_malformed(#[case] spoil: &dyn Fn(&mut Message)) {
    let sandbox = Sandbox::default();
    let mut query = question("allowed.example.", RecordType::A);
    spoil(&mut query);
    let reply = sandbox.ask(&query);
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(reply.metadata.id, 4711);
    assert_eq!(
        sandbox.refusals(),
        [(String::new(), String::new(), Reason::RequestMalformed)]
    );
}

#[test]
fn a_response_is_never_answered() {
    let mut query = question("allowed.example.", RecordType::A);
    query.metadata.message_type = MessageType::Response;
    let octets = query.to_vec().expect("a message");
    assert_eq!(answer(&Sandbox::default(), &octets, Transport::Udp), None);
}

/// Header with one question, then the question.
fn raw(question: &[u8]) -> Vec<u8> {
    [
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
        question,
    ]
    .concat()
}

#[rstest]
#[case::loop_to_itself(b"\xc0\x0c\x00\x01\x00\x01")]
#[case::pointer_forward(b"\xc0\xff\x00\x01\x00\x01")]
#[case::pointer_into_header(b"\x01a\xc0\x00\x00\x01\x00\x01")]
#[case::reserved_label(b"\x80a\x00\x00\x01\x00\x01")]
#[case::cut_label(b"\x3fabc")]
#[case::cut_type(b"\x01a\x00\x00")]
#[case::nothing(b"")]
fn a_broken_question_is_malformed(#[case] question: &[u8]) {
    let octets = answer(&Sandbox::default(), &raw(question), Transport::Udp).expect("an answer");
    let reply = Message::from_vec(&octets).expect("a message");
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(reply.metadata.id, 0x1234);
}

#[test]
fn a_cut_header_is_dropped() {
    let query = raw(b"\x01a\x00\x00\x01\x00\x01");
    for length in 0..12 {
        assert_eq!(
            answer(&Sandbox::default(), &query[..length], Transport::Udp),
            None
        );
    }
}

#[rstest]
#[case::plain(None, 512)]
#[case::tiny(Some(0), 512)]
#[case::some(Some(700), 700)]
#[case::huge(Some(65535), 1232)]
fn answers_fit_what_the_client_takes(#[case] payload: Option<u16>, #[case] bound: usize) {
    let label = "x".repeat(63);
    let name = format!(
        "{label}.{label}.{label}.{}.allowed.example.",
        "x".repeat(40)
    );
    let mut query = question(&name, RecordType::A);
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(true);
        query.set_edns(edns);
    }
    let sandbox = Sandbox::default();
    let octets = answer(&sandbox, &query.to_vec().expect("a query"), Transport::Udp);
    let octets = octets.expect("an answer");
    assert!(octets.len() <= bound);
    let reply = Message::from_vec(&octets).expect("a message");
    assert!(!reply.metadata.truncation && reply.answers.len() == 1);
    assert_eq!(
        reply.edns.as_ref().map(Edns::max_payload),
        payload.map(|_| 1232)
    );
    assert_eq!(
        reply.edns.is_some_and(|edns| edns.flags().dnssec_ok),
        payload.is_some()
    );
}

#[test]
fn an_answer_that_does_not_fit_says_so() {
    let mut reply = question("allowed.example.", RecordType::A);
    reply.add_answers(vec![record(); 100]);
    let octets = answer::encode(&reply, 512).expect("an answer");
    let cut = Message::from_vec(&octets).expect("a message");
    assert!(octets.len() <= 512 && cut.metadata.truncation && cut.answers.len() < 100);
}

#[test]
fn an_unknown_version_of_edns_is_told_so() {
    let mut query = question("allowed.example.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    query.set_edns(edns);
    let reply = Sandbox::default().ask(&query);
    // 16 is BADVERS in an answer and BADSIG elsewhere.
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(reply.answers, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Nothing that a sandbox sends gets more than an answer that is well formed.
    #[test]
    fn answers_any_octets_with_a_message_or_silence(
        octets in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        answers_or_is_silent(&octets);
    }

    #[test]
    fn answers_any_damaged_query_with_a_message_or_silence(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut query = question("a.b.c.allowed.example.", RecordType::AAAA);
        query.set_edns(Edns::new());
        let mut octets = query.to_vec().expect("a query");
        for (at, octet) in damage {
            let index = at.index(octets.len());
            octets[index] = octet;
        }
        if !whole {
            octets.truncate(cut.index(octets.len()));
        }
        answers_or_is_silent(&octets);
    }
}

fn answers_or_is_silent(octets: &[u8]) {
    for (transport, bound) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
        if let Some(reply) = answer(&Sandbox::default(), octets, transport) {
            assert!(reply.len() <= bound);
            let reply = Message::from_vec(&reply).expect("a message");
            assert_eq!(reply.metadata.message_type, MessageType::Response);
            assert_eq!(reply.metadata.id.to_be_bytes(), octets[..2]);
        }
    }
}

/// A server on loopback, and what it has counted.
struct Server {
    sandbox: Arc<Sandbox>,
    udp4: SocketAddr,
    udp6: SocketAddr,
    shutdown: CancellationToken,
}

impl Server {
    async fn start() -> Self {
        let udp4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .await
            .expect("a socket");
        let udp6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        let server = Self {
            sandbox: Arc::default(),
            udp4: udp4.local_addr().expect("an address"),
            udp6: udp6.local_addr().expect("an address"),
            shutdown: CancellationToken::new(),
        };
        let zones = Arc::new(Loopback(Arc::clone(&server.sandbox)));
        tokio::spawn(serve(zones, udp4, udp6, server.shutdown.clone()));
        server
    }

    /// Asks the server at `asked`, and takes an answer from nowhere else.
    async fn ask(&self, asked: SocketAddr, query: &[u8]) -> Message {
        let from = SocketAddr::new(asked.ip(), 0);
        let client = UdpSocket::bind(from).await.expect("a socket");
        client.connect(asked).await.expect("connected");
        client.send(query).await.expect("sent");
        let mut buffer = [0; 4096];
        let length = timeout(DEADLINE, client.recv(&mut buffer))
            .await
            .expect("an answer")
            .expect("received");
        Message::from_vec(&buffer[..length]).expect("a message")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The clients' sockets are connected: an answer from another address would not arrive.
#[tokio::test]
async fn answers_from_the_address_that_was_asked() {
    let server = Server::start().await;
    let query = question("allowed.example.", RecordType::A)
        .to_vec()
        .expect("a query");
    let port = server.udp4.port();
    for asked in ["127.0.0.1", "127.0.0.53", "127.8.8.8"] {
        let asked = SocketAddr::new(asked.parse().expect("an address"), port);
        assert_eq!(
            addresses(&server.ask(asked, &query).await).len(),
            1,
            "{asked}"
        );
    }
    assert_eq!(addresses(&server.ask(server.udp6, &query).await).len(), 1);
}

#[tokio::test]
async fn goes_on_after_datagrams_that_are_no_queries() {
    let server = Server::start().await;
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.udp4.port());
    let junk = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for octets in [
        &b""[..],
        b"x",
        &[0xff; 5000],
        &vec![0; 65000],
        &raw(b"\xc0\x0c\x00\x01\x00\x01"),
    ] {
        junk.send_to(octets, at).await.expect("sent");
    }
    let query = question("denied.example.", RecordType::A)
        .to_vec()
        .expect("a query");
    let reply = server.ask(at, &query).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(server.sandbox.refusals().len(), 2);
}

#[tokio::test]
async fn an_unknown_peer_gets_no_answer() {
    let server = Server::start().await;
    let elsewhere = Loopback(Arc::clone(&server.sandbox));
    assert!(
        elsewhere
            .sandbox("192.0.2.1".parse().expect("an address"))
            .is_none()
    );
}

#[tokio::test]
async fn a_flood_is_dropped_and_reported_once() {
    let sandbox = Sandbox::default();
    let query = question("allowed.example.", RecordType::A)
        .to_vec()
        .expect("a query");
    let answers = (0..5000)
        .filter(|_| answer(&sandbox, &query, Transport::Udp).is_some())
        .count();
    assert!((1000..1500).contains(&answers), "{answers}");
    assert_eq!(
        sandbox.refusals(),
        [(String::new(), String::new(), Reason::Overloaded)]
    );
}

async fn send(stream: &mut DuplexStream, query: &[u8]) {
    let length = u16::try_from(query.len()).expect("a length");
    stream.write_u16(length).await.expect("sent");
    stream.write_all(query).await.expect("sent");
}

async fn receive(stream: &mut DuplexStream) -> Message {
    let mut octets = vec![0; stream.read_u16().await.expect("a length").into()];
    stream.read_exact(&mut octets).await.expect("an answer");
    Message::from_vec(&octets).expect("a message")
}

/// The client's end of a connection that is served for `sandbox`.
fn connect(sandbox: &Arc<Sandbox>) -> DuplexStream {
    let (client, server) = duplex(1 << 16);
    let sandbox = Arc::clone(sandbox);
    tokio::spawn(async move { serve_tcp(&*sandbox, server).await });
    client
}

#[tokio::test(start_paused = true)]
async fn answers_several_queries_of_a_connection() {
    let sandbox = Arc::default();
    let mut stream = connect(&sandbox);
    let query = question("allowed.example.", RecordType::AAAA)
        .to_vec()
        .expect("a query");
    for _ in 0..3 {
        send(&mut stream, &query).await;
    }
    for _ in 0..3 {
        assert_eq!(addresses(&receive(&mut stream).await).len(), 1);
    }
}

#[rstest]
#[case::silence(b"")]
#[case::half_a_length(b"\0")]
#[case::half_a_query(b"\0\x40\x12\x34")]
#[tokio::test(start_paused = true)]
async fn ends_a_connection_that_is_idle(#[case] octets: &[u8]) {
    let mut stream = connect(&Arc::default());
    stream.write_all(octets).await.expect("sent");
    let begin = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).await.expect("an end"), 0);
    assert_eq!(begin.elapsed().as_secs(), 10);
}

/// Octet by octet does not keep a connection: the whole query has ten seconds.
#[tokio::test(start_paused = true)]
async fn ends_a_connection_that_drips() {
    let mut stream = connect(&Arc::default());
    let begin = tokio::time::Instant::now();
    while stream.write_all(b"\x01").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begin.elapsed() <= Duration::from_secs(12));
}

#[rstest]
#[case::too_long(b"\xff\xff")]
#[case::no_header(b"\0\x02ab")]
#[case::empty(b"\0\0")]
#[tokio::test]
async fn ends_a_connection_at_what_is_no_query(#[case] octets: &[u8]) {
    let mut stream = connect(&Arc::default());
    stream.write_all(octets).await.expect("sent");
    let end = timeout(DEADLINE, stream.read(&mut [0; 1]))
        .await
        .expect("at once");
    assert_eq!(end.expect("an end"), 0);
}

#[tokio::test(start_paused = true)]
async fn refuses_connections_beyond_its_bound() {
    let sandbox = Arc::default();
    let query = question("allowed.example.", RecordType::A)
        .to_vec()
        .expect("a query");
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stream = connect(&sandbox);
        send(&mut stream, &query).await;
        receive(&mut stream).await;
        held.push(stream);
    }
    let mut beyond = connect(&sandbox);
    assert_eq!(beyond.read(&mut [0; 1]).await.expect("an end"), 0);
    assert_eq!(sandbox.refusals()[0].2, Reason::Overloaded);
    drop(held.pop());
    let mut again = connect(&sandbox);
    tokio::task::yield_now().await;
    send(&mut again, &query).await;
    assert_eq!(addresses(&receive(&mut again).await).len(), 1);
}
