//! tcx egress on the host's side of a sandbox's link: what the host's stack
//! sends to the sandbox. (The gate delivers behind this point.)

use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};
use ersatz_ebpf_common::{DropReason, Inbound, inbound};

use crate::{
    drops::dropped,
    maps::{INBOUND, sandbox_of},
    packet::{Packet, from_host, ifindex},
};

#[classifier]
pub fn sandbox_egress(context: TcContext) -> i32 {
    try_sandbox_egress(&context).unwrap_or_else(|reason| dropped(&context, reason))
}

#[inline(always)]
fn try_sandbox_egress(context: &TcContext) -> Result<i32, DropReason> {
    let (_, sandbox) = sandbox_of(ifindex(context)).ok_or(DropReason::UnknownLink)?;
    let packet = Packet::of(context)?;
    match inbound(&packet, sandbox, from_host(context)) {
        Inbound::Pass => Ok(TC_ACT_UNSPEC),
        Inbound::Record(flow) => {
            INBOUND.insert(flow, 1, 0).map_err(|_| DropReason::Helper)?;
            Ok(TC_ACT_UNSPEC)
        }
        // SAFETY: only the entry's presence matters, not its value.
        Inbound::IfRecorded(flow) => match unsafe { INBOUND.get(flow) } {
            Some(_) => Ok(TC_ACT_UNSPEC),
            None => Err(DropReason::Inbound),
        },
        Inbound::Drop(reason) => Err(reason),
    }
}
