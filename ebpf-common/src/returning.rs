//! What a frame out of the gate may do: `gate_return`.
//!
//! Its destination is a synthetic address; the sandbox behind it gets the
//! frame with its real address restored. Everything else stays in the gate.

use crate::{
    DropReason, Family, Frame, Sandbox,
    frame::{ETHERTYPE_V4, ETHERTYPE_V6, LINK_LEN, TCP, UDP, V6_FRAGMENT, link},
    slot_of_v4, slot_of_v6, synthetic_v4, synthetic_v6,
};

/// A frame that goes back to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// The sandbox's slot.
    pub slot: u16,
    /// The synthetic address.
    pub destination: Destination,
}

/// The synthetic destination of a frame out of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

impl Destination {
    /// The family of the packet.
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }
}

/// Decides to whom a frame out of the gate goes.
///
/// The gate's own stack wrote the frame, so lengths are not checked again.
/// IPv4 fragments (of large DNS answers) need no rule, as their addresses are
/// where they always are.
#[inline(always)]
pub fn returning(frame: &impl Frame) -> Result<Return, DropReason> {
    match link(frame)?.ethertype {
        ETHERTYPE_V4 => {
            let [protocol]: [u8; 1] = frame.load(LINK_LEN + 9).ok_or(DropReason::Runt)?;
            let destination = frame.load(LINK_LEN + 16).ok_or(DropReason::Runt)?;
            if !matches!(protocol, TCP | UDP) {
                return Err(DropReason::ReturnProtocol);
            }
            let slot = slot_of_v4(destination).ok_or(DropReason::ReturnAddress)?;
            let destination = Destination::V4(destination);
            Ok(Return { slot, destination })
        }
        ETHERTYPE_V6 => {
            let [next_header]: [u8; 1] = frame.load(LINK_LEN + 6).ok_or(DropReason::Runt)?;
            let destination = frame.load(LINK_LEN + 24).ok_or(DropReason::Runt)?;
            if !matches!(next_header, TCP | UDP | V6_FRAGMENT) {
                return Err(DropReason::ReturnProtocol);
            }
            let (slot, _) = slot_of_v6(&destination).ok_or(DropReason::ReturnAddress)?;
            let destination = Destination::V6(destination);
            Ok(Return { slot, destination })
        }
        _ => Err(DropReason::ReturnProtocol),
    }
}

/// The real address of the sandbox in `slot` that `synthetic` stands for.
#[inline(always)]
pub fn restored_v4(sandbox: &Sandbox, slot: u16, synthetic: [u8; 4]) -> Option<[u8; 4]> {
    let wanted = u32::from_ne_bytes(synthetic);
    let [a, b, c, d] = sandbox.v4;
    let stands_for =
        |real: [u8; 4]| real != [0; 4] && u32::from_ne_bytes(synthetic_v4(slot, real)) == wanted;
    if sandbox.ifindex == 0 {
        None
    } else if stands_for(a) {
        Some(a)
    } else if stands_for(b) {
        Some(b)
    } else if stands_for(c) {
        Some(c)
    } else if stands_for(d) {
        Some(d)
    } else {
        None
    }
}

/// The real address of the sandbox in `slot` that `synthetic` stands for; an
/// address of an earlier use of the slot stands for none.
#[inline(always)]
pub fn restored_v6<'a>(
    sandbox: &'a Sandbox,
    slot: u16,
    synthetic: &[u8; 16],
) -> Option<&'a [u8; 16]> {
    let wanted = crate::record::halves(synthetic);
    let [a, b, c, d] = &sandbox.v6;
    let stands_for = |real: &[u8; 16]| {
        crate::record::halves(real) != (0, 0)
            && crate::record::halves(&synthetic_v6(slot, sandbox.epoch, real)) == wanted
    };
    if sandbox.ifindex == 0 {
        None
    } else if stands_for(a) {
        Some(a)
    } else if stands_for(b) {
        Some(b)
    } else if stands_for(c) {
        Some(c)
    } else if stands_for(d) {
        Some(d)
    } else {
        None
    }
}
