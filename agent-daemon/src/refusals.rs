//! A short memory of what was refused to a sandbox, to tell its user when a command fails.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ersatz_policy::Reason;

use crate::app::Refused;

/// Kinds of refusals that are remembered; further ones are in the audit log alone.
const KINDS: usize = 16;

#[derive(Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<(Reason, String), u64>>);

impl Refusals {
    pub(crate) fn note(&self, reason: Reason, target: &str) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = kinds.get_mut(&(reason, target.to_owned())) {
            *count += 1;
        } else if kinds.len() < KINDS {
            kinds.insert((reason, target.to_owned()), 1);
        }
    }

    pub(crate) fn list(&self) -> Vec<Refused> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |((reason, target), count): (&(Reason, String), &u64)| Refused {
            reason: *reason,
            target: target.clone(),
            count: *count,
        };
        kinds.iter().map(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_no_more_kinds_than_its_bound_and_counts_those() {
        let refusals = Refusals::default();
        for round in 0..2 * KINDS {
            refusals.note(Reason::HostNotAllowed, &format!("host-{round}"));
            refusals.note(Reason::HostNotAllowed, "host-0");
        }
        let list = refusals.list();
        assert_eq!(list.len(), KINDS);
        let counted = list.iter().find(|refused| refused.target == "host-0");
        assert_eq!(counted.unwrap().count, 2 * KINDS as u64 + 1);
    }
}
