//! The maps, and the values that the loader sets.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, SockMap},
};
use ersatz_ebpf_common::{Budget, DropReason, Flow, LISTENERS as SOCKETS, SLOTS, Sandbox};

/// The host's end of the gate.
#[unsafe(no_mangle)]
pub static GATE_IFINDEX: Global<u32> = Global::new(0);

/// Sandboxes by slot.
#[map]
pub static SANDBOXES: Array<Sandbox> = Array::with_max_entries(SLOTS, 0);

/// Slots by the sandbox's link.
#[map]
pub static LINKS: HashMap<u32, u32> = HashMap::with_max_entries(SLOTS, 0);

/// The daemon's listening sockets.
#[map]
pub static LISTENERS: SockMap = SockMap::with_max_entries(SOCKETS, 0);

/// Connections that the host opened to sandboxes.
#[map]
pub static INBOUND: LruHashMap<Flow, u8> = LruHashMap::with_max_entries(16_384, 0);

/// Dropped frames by reason.
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DropReason::COUNT, 0);

/// What sandboxes have used, by slot.
#[map]
pub static BUDGETS: Array<Budget> = Array::with_max_entries(SLOTS, 0);

/// How many drops this CPU may still write into the log, and since when.
#[map]
pub static LOG_BUDGET: PerCpuArray<LogBudget> = PerCpuArray::with_max_entries(1, 0);

/// A budget that is filled again each second.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LogBudget {
    pub since_ns: u64,
    pub left: u64,
}

/// The sandbox behind a link.
#[inline(always)]
pub fn sandbox_of(ifindex: u32) -> Option<(u16, &'static Sandbox)> {
    // SAFETY: the daemon alone writes this map; a stale slot is caught below.
    let slot = *unsafe { LINKS.get(ifindex) }?;
    let sandbox = SANDBOXES.get(slot)?;
    (sandbox.ifindex == ifindex).then_some((slot as u16, sandbox))
}
