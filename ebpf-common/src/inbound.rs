//! What a frame on its way into a sandbox, by the host's stack, may do:
//! `sandbox_egress`.
//!
//! The gate delivers behind this point, so only others come by here. The host
//! may open TCP connections (probes, port-forwards) where the sandbox's record
//! says so, and ask for the neighbour; nobody else may send anything.

use crate::{
    DropReason, Flow, Frame, Sandbox, flags,
    frame::{
        ETHERTYPE_ARP, ETHERTYPE_V4, ETHERTYPE_V6, ICMP_V6, LINK_LEN, TCP, V4_LEN, V6_LEN, link,
        tcp, v4, v6,
    },
    ingress::widened,
};

/// What happens to a frame for a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A question for the neighbour, or its answer.
    Pass,
    /// A new connection: to be recorded, then let through.
    Record(Flow),
    /// Let through if this flow was recorded.
    IfRecorded(Flow),
    /// Dropped.
    Drop(DropReason),
}

/// Decides what happens to a frame for a sandbox; `from_host` when the host's
/// own stack made it, and did not merely forward it.
#[inline(always)]
pub fn inbound(frame: &impl Frame, sandbox: &Sandbox, from_host: bool) -> Inbound {
    match decide(frame, sandbox, from_host) {
        Ok(verdict) => verdict,
        Err(reason) => Inbound::Drop(reason),
    }
}

#[inline(always)]
fn decide(frame: &impl Frame, sandbox: &Sandbox, from_host: bool) -> Result<Inbound, DropReason> {
    if !from_host || !sandbox.has(flags::INBOUND) {
        return Err(DropReason::Inbound);
    }
    let (host, target, offset, payload) = match link(frame)?.ethertype {
        ETHERTYPE_ARP => return Ok(Inbound::Pass),
        ETHERTYPE_V4 => {
            let ip = v4(frame)?;
            if ip.protocol != TCP {
                return Err(DropReason::Inbound);
            }
            let offset = LINK_LEN + V4_LEN;
            (
                widened(ip.source),
                widened(ip.destination),
                offset,
                ip.payload,
            )
        }
        ETHERTYPE_V6 => {
            let ip = v6(frame)?;
            match ip.next_header {
                ICMP_V6 => return neighbour(frame),
                TCP => (ip.source, ip.destination, LINK_LEN + V6_LEN, ip.payload),
                _ => return Err(DropReason::Inbound),
            }
        }
        _ => return Err(DropReason::Inbound),
    };
    let tcp = tcp(frame, offset, payload)?;
    let flow = Flow {
        ifindex: sandbox.ifindex,
        host_port_be: tcp.source_port_be,
        sandbox_port_be: tcp.destination_port_be,
        host,
        sandbox: target,
    };
    Ok(if tcp.opens() {
        Inbound::Record(flow)
    } else {
        Inbound::IfRecorded(flow)
    })
}

/// Neighbour solicitations and advertisements, and no other `ICMPv6`.
#[inline(always)]
fn neighbour(frame: &impl Frame) -> Result<Inbound, DropReason> {
    let [kind]: [u8; 1] = frame.load(LINK_LEN + V6_LEN).ok_or(DropReason::Runt)?;
    match kind {
        135 | 136 => Ok(Inbound::Pass),
        _ => Err(DropReason::Inbound),
    }
}
