//! What the kernel programs and the daemon share.
//!
//! The records of the maps, the constants of the gate, and the steering
//! decisions themselves: pure functions over the bytes of a frame, without
//! maps, helpers or memory of their own. The kernel programs call them on a
//! packet, the tests on a slice; both get the same verdict.
//!
//! A change of a record, of a map or of the meaning of a field raises
//! [`ABI_VERSION`]: a daemon never adopts the maps of another version.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the verifier proves bounds within one function, and each call would cost"
)]

mod answer;
mod budget;
mod frame;
mod inbound;
mod ingress;
mod reason;
mod record;
mod returning;
mod synthetic;

pub use self::{
    answer::{
        ARP_REPLY_LEN, ArpRequest, NEIGHBOUR_ADVERT_LEN, NeighbourSolicit, arp_reply,
        neighbour_advert,
    },
    budget::Budget,
    frame::{Family, Frame, HEADERS_MAX, Link},
    inbound::{Inbound, inbound},
    ingress::{Segment, Transport, Verdict, ingress},
    reason::DropReason,
    record::{Flow, LISTENERS, Listener, Sandbox, flags},
    returning::{Destination, Return, restored_v4, restored_v6, returning},
    synthetic::{SLOTS, slot_of_v4, slot_of_v6, synthetic_v4, synthetic_v6},
};

/// The version of everything in this crate that maps or programs rely on.
pub const ABI_VERSION: u32 = 1;

/// The hardware address of the host's end of the gate.
pub const HOST_MAC: [u8; 6] = [0x02, 0xe7, 0, 0, 0, 1];

/// The hardware address of the gate's own end.
pub const GATE_MAC: [u8; 6] = [0x02, 0xe7, 0, 0, 0, 2];

/// The only UDP port that is served, and the TCP port of DNS.
pub const DNS_PORT: u16 = 53;
