//! One query, one answer: what a sandbox is told.
//!
//! Pure but for the sandbox's table of synthetic addresses and its counters, so
//! that both transports say the same and a fuzzer can ask.

use ersatz_policy::{Name, Reason};
use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name as DnsName, RData, Record, RecordType,
        rdata::{A, AAAA, SOA},
    },
    serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder},
};

use super::{View, limits::Claim};

/// How an answer travels; it decides how long the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Seconds that a synthetic address may be kept: short, so that a changed policy shows.
const TTL: u32 = 30;

/// Seconds that a refusal may be kept: shorter, because people wait for a policy that they have just widened.
const NEGATIVE_TTL: u32 = 5;

/// Octets of the largest UDP answer, whatever a client offers: fits every path unfragmented (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;

/// Octets of a UDP answer to a client that offers nothing, RFC 1035 section 4.2.1.
const UDP_PLAIN: u16 = 512;

/// Records that a query may carry after its question. OPT is one, TSIG another; nobody has more to say.
const ADDITIONALS: u16 = 4;

/// Answers `query`, or `None` where silence is the answer: no readable header, a
/// response in place of a query (two servers would talk for ever), or a budget used up.
pub(super) fn answer(view: &dyn View, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    if let Claim::Beyond { report } = view.limits().claim() {
        if report {
            view.refused("", "", Reason::Overloaded);
        }
        return None;
    }
    let header = Header::read(&mut BinDecoder::new(query)).ok()?;
    if header.metadata.message_type == MessageType::Response {
        return None;
    }
    match read(&header, query) {
        Ok(asked) => encode(&reply(view, &asked), asked.limit(transport)),
        Err((code, reason)) => {
            view.refused("", "", reason);
            encode(&bare(&header.metadata, code), UDP_PLAIN)
        }
    }
}

/// A query that is well formed: one question, nothing said before its answer.
struct Asked {
    message: Message,
    question: Query,
}

impl Asked {
    /// Octets that the answer may have.
    fn limit(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Udp => self.message.max_payload().min(UDP_PAYLOAD),
            Transport::Tcp => u16::MAX,
        }
    }
}

fn read(header: &Header, query: &[u8]) -> Result<Asked, (ResponseCode, Reason)> {
    const MALFORMED: (ResponseCode, Reason) = (ResponseCode::FormErr, Reason::RequestMalformed);
    if header.metadata.op_code != OpCode::Query {
        return Err((ResponseCode::NotImp, Reason::ProtocolNotAllowed));
    }
    let counts = &header.counts;
    if (counts.queries, counts.answers, counts.authorities) != (1, 0, 0)
        || counts.additionals > ADDITIONALS
    {
        return Err(MALFORMED);
    }
    let message = Message::from_vec(query).map_err(|_| MALFORMED)?;
    let question = message.queries.first().cloned().ok_or(MALFORMED)?;
    Ok(Asked { message, question })
}

fn reply(view: &dyn View, asked: &Asked) -> Message {
    let mut reply = blank(asked);
    if asked.message.version() > 0 {
        reply.metadata.response_code = ResponseCode::BADVERS;
        return reply;
    }
    match decide(view, &asked.question) {
        Verdict::Addresses(name) => {
            view.answered();
            reply.answers.extend(address(view, &asked.question, &name));
            if reply.answers.is_empty() {
                reply.authorities.push(start_of_authority());
            }
        }
        Verdict::Nothing => reply.authorities.push(start_of_authority()),
        Verdict::Refused(code, reason) => {
            let name = asked.question.name().to_ascii();
            view.refused(&name, &type_name(asked.question.query_type()), reason);
            reply.metadata.response_code = code;
            if code == ResponseCode::NXDomain {
                reply.authorities.push(start_of_authority());
            }
        }
    }
    reply
}

enum Verdict {
    /// An allowed name: an address for A and AAAA, and "no such record" for the rest.
    Addresses(Name),
    /// The name is there, but has no records.
    Nothing,
    Refused(ResponseCode, Reason),
}

fn decide(view: &dyn View, question: &Query) -> Verdict {
    use ResponseCode::{NXDomain, NotImp, Refused};
    if question.query_class() != DNSClass::IN {
        return Verdict::Refused(Refused, Reason::ProtocolNotAllowed);
    }
    match question.query_type() {
        RecordType::AXFR | RecordType::IXFR | RecordType::ANY => {
            return Verdict::Refused(Refused, Reason::ProtocolNotAllowed);
        }
        qtype if is_meta(qtype) => return Verdict::Refused(NotImp, Reason::ProtocolNotAllowed),
        _ => {}
    }
    // The root exists: "it does not" would mean that nothing below does either, RFC 8020.
    if question.name().is_root() {
        return Verdict::Nothing;
    }
    match canonical(question.name()) {
        None => Verdict::Refused(NXDomain, Reason::ServerNameInvalid),
        Some(name) if view.resolves(&name) => Verdict::Addresses(name),
        Some(_) => Verdict::Refused(NXDomain, Reason::HostNotAllowed),
    }
}

/// Types that ask for something else than a record, RFC 6895 section 3.1, and OPT, which nobody may ask for.
fn is_meta(qtype: RecordType) -> bool {
    let code = u16::from(qtype);
    code == 0 || code == u16::from(RecordType::OPT) || (128..=255).contains(&code)
}

/// The name as policy knows names; `None` when it is none, as with a dot inside of a label.
fn canonical(name: &DnsName) -> Option<Name> {
    let mut text = Vec::with_capacity(name.len());
    for label in name {
        if label.contains(&b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push(b'.');
        }
        text.extend_from_slice(label);
    }
    Name::parse(&text).ok()
}

fn address(view: &dyn View, question: &Query, name: &Name) -> Option<Record> {
    let (v4, v6) = view.synthetic().assign(name);
    let data = match question.query_type() {
        RecordType::A => RData::A(A(v4)),
        RecordType::AAAA => RData::AAAA(AAAA(v6)),
        _ => return None,
    };
    Some(Record::from_rdata(question.name().clone(), TTL, data))
}

/// The record that lets clients keep a "no", RFC 2308. The root is its owner: any name is below it.
fn start_of_authority() -> Record {
    let soa = SOA::new(
        DnsName::root(),
        DnsName::root(),
        1,
        3600,
        600,
        86400,
        NEGATIVE_TTL,
    );
    Record::from_rdata(DnsName::root(), NEGATIVE_TTL, RData::SOA(soa))
}

fn blank(asked: &Asked) -> Message {
    let mut reply = bare(&asked.message.metadata, ResponseCode::NoError);
    reply.add_query(asked.question.clone());
    if let Some(theirs) = &asked.message.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD)
            .set_version(0)
            .set_dnssec_ok(theirs.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}

fn bare(metadata: &Metadata, code: ResponseCode) -> Message {
    let mut reply = Message::response(metadata.id, metadata.op_code);
    reply.metadata = Metadata::response_from_request(metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply
}

fn type_name(qtype: RecordType) -> String {
    match qtype {
        RecordType::Unknown(code) => format!("TYPE{code}"),
        known => known.to_string(),
    }
}

/// Encodes `reply`; records beyond `limit` octets are left out and the TC bit says so.
pub(super) fn encode(reply: &Message, limit: u16) -> Option<Vec<u8>> {
    // The encoder writes a name whole before it compresses it: a limit would
    // cut off what fits after that, so the limit is set only when it must be.
    let whole = encode_within(reply, u16::MAX)?;
    if whole.len() <= usize::from(limit) {
        return Some(whole);
    }
    encode_within(reply, limit)
}

fn encode_within(reply: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(usize::from(UDP_PLAIN));
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_max_size(limit);
    reply.emit(&mut encoder).ok()?;
    Some(octets)
}
