//! How much a sandbox may ask for: new connections, and questions.
//!
//! All sandboxes share the daemon's listening queues, so that one which floods
//! them would keep the others out. What is beyond the budget is dropped in
//! silence, and the client tries again.

/// What a sandbox has used, as the time by which it will have paid for it (GCRA).
///
/// CPUs write it without a lock; at worst a few take one permit together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    openings_ns: u64,
    questions_ns: u64,
}

/// A rate, and how much may come at once.
struct Rate {
    cost_ns: u64,
    burst_ns: u64,
}

const OPENINGS: Rate = Rate::of(Budget::OPENINGS_PER_SECOND, Budget::OPENINGS_AT_ONCE);
const QUESTIONS: Rate = Rate::of(Budget::QUESTIONS_PER_SECOND, Budget::QUESTIONS_AT_ONCE);
const SECOND_NS: u64 = 1_000_000_000;

impl Budget {
    /// New connections each second: more than one core of the daemon can take.
    pub const OPENINGS_PER_SECOND: u64 = 10_000;
    /// New connections at once.
    pub const OPENINGS_AT_ONCE: u64 = 30_000;
    /// Datagrams to a name server each second; the daemon's own bound is lower.
    pub const QUESTIONS_PER_SECOND: u64 = 1000;
    /// Datagrams to a name server at once.
    pub const QUESTIONS_AT_ONCE: u64 = 2000;

    /// Takes one new connection; false if there is none left.
    #[inline(always)]
    pub fn take_opening(&mut self, now_ns: u64) -> bool {
        OPENINGS.take(&mut self.openings_ns, now_ns)
    }

    /// Takes one question; false if there is none left.
    #[inline(always)]
    pub fn take_question(&mut self, now_ns: u64) -> bool {
        QUESTIONS.take(&mut self.questions_ns, now_ns)
    }
}

impl Rate {
    const fn of(per_second: u64, at_once: u64) -> Self {
        let cost_ns = SECOND_NS / per_second;
        Self {
            cost_ns,
            burst_ns: cost_ns * at_once,
        }
    }

    #[inline(always)]
    fn take(&self, paid_by_ns: &mut u64, now_ns: u64) -> bool {
        let due = if *paid_by_ns > now_ns {
            *paid_by_ns
        } else {
            now_ns
        };
        if due - now_ns >= self.burst_ns {
            return false;
        }
        *paid_by_ns = due + self.cost_ns;
        true
    }
}

const _: () = assert!(size_of::<Budget>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_a_burst_then_the_rate() {
        let start = 77 * SECOND_NS;
        let mut budget = Budget::default();
        let taken = (0..100_000).filter(|_| budget.take_opening(start)).count();
        assert_eq!(taken as u64, Budget::OPENINGS_AT_ONCE);
        let later = start + SECOND_NS;
        let taken = (0..100_000).filter(|_| budget.take_opening(later)).count();
        assert_eq!(taken as u64, Budget::OPENINGS_PER_SECOND);
        // A rest gives the burst back, and no more.
        let rested = later + 3600 * SECOND_NS;
        let taken = (0..100_000).filter(|_| budget.take_opening(rested)).count();
        assert_eq!(taken as u64, Budget::OPENINGS_AT_ONCE);
    }

    #[test]
    fn questions_and_openings_are_counted_apart() {
        let mut budget = Budget::default();
        while budget.take_question(SECOND_NS) {}
        assert!(budget.take_opening(SECOND_NS));
    }
}
