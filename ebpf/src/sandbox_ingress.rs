//! tcx ingress on the host's side of a sandbox's link: all that it sends.

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, bpf_sock},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_skb_change_tail},
    },
    macros::classifier,
    programs::TcContext,
};
use ersatz_ebpf_common::{
    DropReason, Family, Frame as _, GATE_MAC, HOST_MAC, Listener, NEIGHBOUR_ADVERT_LEN, Sandbox,
    Segment, Transport, Verdict, arp_reply, flags, ingress, neighbour_advert, synthetic_v4,
    synthetic_v6,
};

use crate::{
    drops::dropped,
    maps::{BUDGETS, GATE_IFINDEX, INBOUND, LISTENERS, sandbox_of},
    packet::{Packet, hand_to_peer, ifindex},
};

#[classifier]
pub fn sandbox_ingress(context: TcContext) -> i32 {
    try_sandbox_ingress(&context).unwrap_or_else(|reason| dropped(&context, reason))
}

#[inline(always)]
fn try_sandbox_ingress(context: &TcContext) -> Result<i32, DropReason> {
    let link = ifindex(context);
    let (slot, sandbox) = sandbox_of(link).ok_or(DropReason::UnknownLink)?;
    let packet = Packet::of(context)?;
    match ingress(&packet, sandbox) {
        Verdict::Steer(segment) => steer(context, packet, segment, slot, sandbox),
        Verdict::AnswerArp(request) => answer(context, &arp_reply(request, sandbox), link),
        Verdict::AnswerNeighbour(solicit) => {
            resized(context, NEIGHBOUR_ADVERT_LEN)?;
            answer(context, &neighbour_advert(&solicit, sandbox), link)
        }
        Verdict::ToHost => Ok(TC_ACT_UNSPEC),
        Verdict::Drop(reason) => Err(reason),
    }
}

/// Sends the segment into the gate, under the sandbox's synthetic address.
#[inline(always)]
fn steer(
    context: &TcContext,
    mut packet: Packet<'_>,
    segment: Segment,
    slot: u16,
    sandbox: &Sandbox,
) -> Result<i32, DropReason> {
    if let Some(listener) = segment.listener() {
        // Silence, not a refusal: the client tries again and finds the next daemon.
        if !sandbox.has(flags::ADMITTED) {
            return Err(DropReason::NotAdmitted);
        }
        if !listening(listener) {
            return Err(DropReason::NoListener);
        }
        if !within_budget(segment.transport, slot) {
            return Err(DropReason::Budget);
        }
    } else if answers_the_host(&packet, segment, sandbox) {
        return Ok(TC_ACT_UNSPEC);
    }
    match segment.family {
        Family::V4 => {
            let real = packet.load(SOURCE_V4).ok_or(DropReason::Runt)?;
            packet.store(SOURCE_V4, &synthetic_v4(slot, real))?;
        }
        Family::V6 => {
            let real = packet.load(SOURCE_V6).ok_or(DropReason::Runt)?;
            packet.store(SOURCE_V6, &synthetic_v6(slot, sandbox.epoch, &real))?;
        }
    }
    packet.store(0, &GATE_MAC)?;
    packet.store(6, &HOST_MAC)?;
    Ok(hand_to_peer(context, GATE_IFINDEX.load()))
}

/// Whether the segment belongs to a connection that the host opened.
#[inline(always)]
fn answers_the_host(packet: &Packet<'_>, segment: Segment, sandbox: &Sandbox) -> bool {
    if segment.transport != Transport::Segment || !sandbox.has(flags::INBOUND) {
        return false;
    }
    let Some(flow) = segment.flow(packet, sandbox.ifindex) else {
        return false;
    };
    // SAFETY: only the entry's presence matters, not its value.
    unsafe { INBOUND.get(flow) }.is_some()
}

/// Whether a daemon has its socket in the map.
#[inline(always)]
fn listening(listener: Listener) -> bool {
    let index = listener as u32;
    let map = (&raw const LISTENERS).cast_mut().cast();
    // SAFETY: a map and a key of its key type.
    let socket: *mut bpf_sock =
        unsafe { bpf_map_lookup_elem(map, (&raw const index).cast()) }.cast();
    if socket.is_null() {
        return false;
    }
    // SAFETY: the reference that the look-up took, given back once.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}

/// Whether the sandbox may ask for one more.
#[inline(always)]
fn within_budget(transport: Transport, slot: u16) -> bool {
    let Some(budget) = BUDGETS.get_ptr_mut(u32::from(slot)) else {
        return false;
    };
    // SAFETY: a valid entry of the map; a lost update costs one permit.
    let budget = unsafe { &mut *budget };
    // SAFETY: a helper call without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    match transport {
        Transport::Dns => budget.take_question(now),
        Transport::Open | Transport::Segment => budget.take_opening(now),
    }
}

/// Turns the sandbox's question into the answer, and hands it back.
#[inline(always)]
fn answer<const N: usize>(
    context: &TcContext,
    frame: &[u8; N],
    link: u32,
) -> Result<i32, DropReason> {
    context.store(0, frame, 0).map_err(|_| DropReason::Helper)?;
    Ok(hand_to_peer(context, link))
}

/// Gives the frame exactly `length` bytes.
#[inline(always)]
fn resized(context: &TcContext, length: usize) -> Result<(), DropReason> {
    if context.len() as usize == length {
        return Ok(());
    }
    // SAFETY: a helper call on the program's own context.
    match unsafe { bpf_skb_change_tail(context.skb.skb, length as u32, 0) } {
        0 => Ok(()),
        _ => Err(DropReason::Helper),
    }
}

const SOURCE_V4: usize = 14 + 12;
const SOURCE_V6: usize = 14 + 8;
