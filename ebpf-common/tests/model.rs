//! The steering decisions against a model.
//!
//! The model says in words of its own what may pass; it shares no code with
//! the decision.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![expect(dead_code, reason = "the frames are shared with other tests")]

mod frames;

use ersatz_ebpf_common::{
    Destination, DropReason as Reason, Family, Flow, Inbound, Transport, Verdict, flags, inbound,
    ingress, returning,
};
use frames::*;
use proptest::prelude::*;

/// What the model knows a frame to be.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Steered(Family, Transport),
    Question,
    Answer,
    Nothing,
}

/// The model: what may pass, said once more and differently.
fn model(frame: &[u8], may_answer: bool) -> Known {
    let Some((head, body)) = frame.split_at_checked(14) else {
        return Known::Nothing;
    };
    if head[6..12] != MAC {
        return Known::Nothing;
    }
    let unicast = head[0] % 2 == 0;
    match head[12..] {
        [8, 6] => model_arp(body, may_answer),
        [8, 0] if unicast => model_v4(body),
        [0x86, 0xdd] if body.get(6) == Some(&ICMP_V6) => model_discovery(body, may_answer),
        [0x86, 0xdd] if unicast => model_v6(body),
        _ => None,
    }
    .unwrap_or(Known::Nothing)
}

fn model_v4(body: &[u8]) -> Option<Known> {
    let total = usize::from(u16::from_be_bytes([*body.get(2)?, *body.get(3)?]));
    let packet = body.get(..total)?;
    let (header, payload) = packet.split_at_checked(20)?;
    let plain = header[0] == 0x45 && matches!(header[6..8], [0 | 0x40, 0]);
    let ours = header[12..16] == V4;
    let reachable = (1..=223).contains(&header[16]) && header[16] != 127;
    (plain && ours && reachable).then(|| model_segment(Family::V4, header[9], payload))?
}

fn model_v6(body: &[u8]) -> Option<Known> {
    let (header, rest) = body.split_at_checked(40)?;
    let payload = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let target = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&header[24..40]).unwrap());
    let reachable = !target.is_multicast()
        && !target.is_unicast_link_local()
        && target.segments()[..4] != [0; 4];
    let ours = header[0] / 16 == 6 && header[8..24] == V6;
    (ours && reachable).then(|| model_segment(Family::V6, header[6], payload))?
}

fn model_segment(family: Family, protocol: u8, payload: &[u8]) -> Option<Known> {
    if protocol == UDP {
        let stated = usize::from(u16::from_be_bytes([*payload.get(4)?, *payload.get(5)?]));
        let dns = payload[2..4] == [0, 53] && stated >= 8 && stated <= payload.len();
        return dns.then_some(Known::Steered(family, Transport::Dns));
    }
    if protocol != TCP || payload.len() < 20 {
        return None;
    }
    let header = usize::from(payload[12] / 16) * 4;
    let ports = payload[..2] != [0, 0] && payload[2..4] != [0, 0];
    if header < 20 || header > payload.len() || !ports {
        return None;
    }
    let has = |flag: u8| payload[13] & flag != 0;
    let transport = match (has(SYN), has(ACK), has(RST), has(FIN)) {
        (true, false, false, false) => Transport::Open,
        (true, true, false, false) | (false, true, _, false) | (false, true, false, true) => {
            Transport::Segment
        }
        (false, false, true, false) => Transport::Segment,
        _ => return None,
    };
    Some(Known::Steered(family, transport))
}

fn model_arp(body: &[u8], may_answer: bool) -> Option<Known> {
    let body = body.get(..28)?;
    let truthful = body[..7] == [0, 1, 8, 0, 6, 4, 0] && body[8..14] == MAC && body[14..18] == V4;
    match body[7] {
        1 if truthful && body[24..28] != V4 => Some(Known::Question),
        2 if truthful && may_answer => Some(Known::Answer),
        _ => None,
    }
}

fn model_discovery(body: &[u8], may_answer: bool) -> Option<Known> {
    let (header, rest) = body.split_at_checked(40)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = rest.get(..length)?;
    let near = header[0] / 16 == 6 && header[7] == 255;
    if !near || !matches!(length, 24 | 32) || message[1] != 0 {
        return None;
    }
    let target = &message[8..24];
    let option = |kind| match message.get(24..32) {
        None => true,
        Some(option) => option[..2] == [kind, 1] && option[2..] == MAC,
    };
    let source = &header[8..24];
    let known = source == V6 || (source[0] == 0xfe && source[1] & 0xc0 == 0x80);
    match message[0] {
        135 if known && option(1) && target != V6 && target[0] != 0xff => Some(Known::Question),
        136 if may_answer && option(2) && target == V6 => Some(Known::Answer),
        _ => None,
    }
}

fn known(verdict: Verdict) -> Known {
    match verdict {
        Verdict::Steer(segment) => Known::Steered(segment.family, segment.transport),
        Verdict::AnswerArp(_) | Verdict::AnswerNeighbour(_) => Known::Question,
        Verdict::ToHost => Known::Answer,
        Verdict::Drop(_) => Known::Nothing,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn decides_as_the_model(frame in any_frame(), record in any_sandbox(5)) {
        let verdict = ingress(&Bytes(&frame), &record);
        let may_answer = record.has(flags::INBOUND);
        prop_assert_eq!(known(verdict), model(&frame, may_answer), "{:?}", verdict);
    }

    #[test]
    fn nothing_enters_a_sandbox_unless_the_host_sent_it(frame in any_frame(), record in any_sandbox(5)) {
        let forwarded = inbound(&Bytes(&frame), &record, false);
        prop_assert_eq!(forwarded, Inbound::Drop(Reason::Inbound));
    }

    #[test]
    fn what_is_recorded_has_the_addresses_of_the_frame(port in 1_u16.., host: u16) {
        let frame = ethernet(MAC, GATEWAY_MAC, 0x86dd,
            &ipv6(WORLD_V6, V6, TCP, 64, &tcp(host.max(1), port, SYN)));
        let expected = Flow {
            ifindex: 5,
            host_port_be: host.max(1).to_be(),
            sandbox_port_be: port.to_be(),
            host: WORLD_V6,
            sandbox: V6,
        };
        let record = sandbox(5, flags::INBOUND);
        prop_assert_eq!(inbound(&Bytes(&frame), &record, true), Inbound::Record(expected));
    }

    #[test]
    fn nothing_leaves_the_gate_but_to_synthetic_addresses(frame in any_frame()) {
        // The frames of the generator have real addresses, or noise.
        if let Ok(back) = returning(&Bytes(&frame)) {
            let synthetic = match back.destination {
                Destination::V4(address) => (0xf0..0xff).contains(&address[0]),
                Destination::V6(address) => address[..2] == [0xfd, 0xe7],
            };
            prop_assert!(synthetic);
        }
    }
}
