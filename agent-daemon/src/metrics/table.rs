//! Counters of one family, found by a number instead of by hashing labels.

use std::{
    collections::HashMap,
    sync::{OnceLock, PoisonError, RwLock},
};

use prometheus_client::metrics::{counter::Counter, family::Family};

use super::Label;

/// Names with a series of their own in a [`Named`]; further ones share `other`.
pub(super) const NAMES: usize = 1000;

/// A family whose counters are looked up once each and then kept.
pub(super) struct Table<const N: usize> {
    family: Family<[Label; N], Counter>,
    cells: Box<[OnceLock<Counter>]>,
}

impl<const N: usize> Table<N> {
    /// `cells` is the number of different label sets.
    pub(super) fn new(family: Family<[Label; N], Counter>, cells: usize) -> Table<N> {
        let cells = (0..cells).map(|_| OnceLock::new()).collect();
        Table { family, cells }
    }

    /// The counter of a cell, made with its labels at its first use.
    pub(super) fn at(&self, cell: usize, labels: impl FnOnce() -> [Label; N]) -> &Counter {
        let cell = self.cells.get(cell).expect("cells cover the closed sets");
        cell.get_or_init(|| self.family.get_or_create_owned(&labels()))
    }
}

/// A family by names that an operator gave, bounded in number.
pub(super) struct Named {
    label: &'static str,
    family: Family<[(&'static str, String); 1], Counter>,
    known: RwLock<HashMap<Box<str>, Counter>>,
}

impl Named {
    pub(super) fn new(
        label: &'static str,
        family: Family<[(&'static str, String); 1], Counter>,
    ) -> Named {
        let known = RwLock::default();
        Named {
            label,
            family,
            known,
        }
    }

    pub(super) fn of(&self, name: &str) -> Counter {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(name) {
            return counter.clone();
        }
        drop(known);
        self.add(name)
    }

    fn add(&self, name: &str) -> Counter {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let full = known.len() >= NAMES;
        let label = if full { "other" } else { name };
        let counter = self
            .family
            .get_or_create_owned(&[(self.label, label.to_owned())]);
        if !full {
            known.insert(name.into(), counter.clone());
        }
        counter
    }
}
