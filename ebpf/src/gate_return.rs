//! tcx ingress on the host's end of the gate: what the daemon sends back.

use aya_ebpf::{macros::classifier, programs::TcContext};
use ersatz_ebpf_common::{Destination, DropReason, Sandbox, restored_v4, restored_v6, returning};

use crate::{
    drops::dropped,
    maps::SANDBOXES,
    packet::{Packet, hand_to_peer},
};

#[classifier]
pub fn gate_return(context: TcContext) -> i32 {
    try_gate_return(&context).unwrap_or_else(|reason| dropped(&context, reason))
}

#[inline(always)]
fn try_gate_return(context: &TcContext) -> Result<i32, DropReason> {
    let mut packet = Packet::of(context)?;
    let back = returning(&packet)?;
    let sandbox: &Sandbox = SANDBOXES
        .get(u32::from(back.slot))
        .ok_or(DropReason::ReturnAddress)?;
    match back.destination {
        Destination::V4(synthetic) => {
            let real =
                restored_v4(sandbox, back.slot, synthetic).ok_or(DropReason::ReturnAddress)?;
            packet.store(DESTINATION_V4, &real)?;
        }
        Destination::V6(synthetic) => {
            let real =
                restored_v6(sandbox, back.slot, &synthetic).ok_or(DropReason::ReturnAddress)?;
            packet.store(DESTINATION_V6, real)?;
        }
    }
    packet.store(0, &sandbox.mac)?;
    packet.store(6, &sandbox.gateway_mac)?;
    Ok(hand_to_peer(context, sandbox.ifindex))
}

const DESTINATION_V4: usize = 14 + 16;
const DESTINATION_V6: usize = 14 + 24;
