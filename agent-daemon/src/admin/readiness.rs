//! Whether the daemon can do its work, and what it still lacks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;

/// What must hold for the daemon to be ready. Each begins as not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The gate is there and the kernel programs are attached.
    Steering,
    /// The configuration was read without an error; a broken one that left the
    /// last good state in force does not hold.
    Config,
    /// Connections and queries of sandboxes are accepted.
    Listeners,
}

/// The conditions, shared between those that set them and those that ask.
#[derive(Clone)]
pub struct Readiness {
    lacking: Arc<Mutex<BTreeMap<Condition, String>>>,
}

impl Readiness {
    pub fn new() -> Readiness {
        let lacking = Condition::ALL.map(|condition| (condition, "not yet".to_owned()));
        Readiness {
            lacking: Arc::new(Mutex::new(lacking.into())),
        }
    }

    pub fn holds(&self, condition: Condition) {
        self.update(|lacking| lacking.remove(&condition));
    }

    /// Says why the condition does not hold, in words for the operator.
    pub fn lacks(&self, condition: Condition, why: impl Into<String>) {
        let why = why.into();
        self.update(|lacking| lacking.insert(condition, why));
    }

    pub fn is_ready(&self) -> bool {
        self.update(|lacking| lacking.is_empty())
    }

    /// Whether all holds, and the answer to `/readyz`.
    pub(super) fn report(&self) -> (bool, String) {
        let lacking = self.update(|lacking| lacking.clone());
        let reasons: Vec<_> = lacking
            .iter()
            .map(|(condition, why)| json!({"condition": condition.as_str(), "reason": why}))
            .collect();
        let ready = lacking.is_empty();
        (
            ready,
            format!("{}\n", json!({"ready": ready, "lacking": reasons})),
        )
    }

    fn update<T>(&self, change: impl FnOnce(&mut BTreeMap<Condition, String>) -> T) -> T {
        change(&mut self.lacking.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness::new()
    }
}

impl Condition {
    pub const ALL: [Condition; 3] = [Condition::Steering, Condition::Config, Condition::Listeners];

    fn as_str(self) -> &'static str {
        match self {
            Condition::Steering => "steering",
            Condition::Config => "config",
            Condition::Listeners => "listeners",
        }
    }
}
