//! Drops: counted by reason, and at debug level logged, a few each second.

use aya_ebpf::{bindings::TC_ACT_SHOT, helpers::bpf_ktime_get_ns, programs::TcContext};
use aya_log_ebpf::debug;
use ersatz_ebpf_common::DropReason;

use crate::{
    maps::{DROPS, LOG_BUDGET},
    packet::ifindex,
};

/// Per CPU; what a sandbox sends beyond this is counted only.
const LOGGED_PER_SECOND: u64 = 20;
const SECOND_NS: u64 = 1_000_000_000;

/// Counts a drop and gives the verdict.
#[inline(always)]
pub fn dropped(context: &TcContext, reason: DropReason) -> i32 {
    if let Some(counter) = DROPS.get_ptr_mut(reason.index()) {
        // SAFETY: a valid entry of this CPU's own copy.
        unsafe { *counter += 1 };
    }
    log(context, reason);
    TC_ACT_SHOT
}

#[inline(never)]
fn log(context: &TcContext, reason: DropReason) {
    use aya_log_ebpf::macro_support::{Level, level_enabled};
    if level_enabled(Level::Debug) && affordable() {
        // Read by the daemon's `log` module.
        debug!(
            context,
            "{} {} {}",
            ifindex(context),
            reason.index(),
            context.len()
        );
    }
}

#[inline(always)]
fn affordable() -> bool {
    let Some(budget) = LOG_BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a valid entry of this CPU's own copy.
    let budget = unsafe { &mut *budget };
    // SAFETY: a helper call without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if now - budget.since_ns > SECOND_NS {
        budget.since_ns = now;
        budget.left = LOGGED_PER_SECOND;
    }
    if budget.left == 0 {
        return false;
    }
    budget.left -= 1;
    true
}
