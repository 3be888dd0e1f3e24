//! sk_lookup in the gate: any destination goes to the daemon's listeners.

use aya_ebpf::{macros::sk_lookup, programs::SkLookupContext};
use ersatz_ebpf_common::{DNS_PORT, Listener};

use crate::maps::LISTENERS;

#[sk_lookup]
pub fn gate_lookup(context: SkLookupContext) -> u32 {
    match try_gate_lookup(&context) {
        Some(()) => SK_PASS,
        None => SK_DROP,
    }
}

#[inline(always)]
fn try_gate_lookup(context: &SkLookupContext) -> Option<()> {
    // SAFETY: the kernel hands a valid context to the program.
    let lookup = unsafe { &*context.lookup };
    let listener = match (lookup.protocol, lookup.family) {
        (TCP, AF_INET) => Listener::Tcp4,
        (TCP, AF_INET6) => Listener::Tcp6,
        (UDP, AF_INET) if lookup.local_port == u32::from(DNS_PORT) => Listener::Udp4,
        (UDP, AF_INET6) if lookup.local_port == u32::from(DNS_PORT) => Listener::Udp6,
        _ => return None,
    };
    LISTENERS
        .redirect_sk_lookup(context, listener as u32, 0)
        .ok()
}

const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const TCP: u32 = 6;
const UDP: u32 = 17;
