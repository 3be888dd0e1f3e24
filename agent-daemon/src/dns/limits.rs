//! What one sandbox may ask of the daemon's DNS.
//!
//! Kept per sandbox, so that a flood costs its neighbours nothing but the time
//! in which its datagrams are read and dropped.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::budget::Budget;

/// The budget of one sandbox: queries by time, TCP connections by number.
pub struct Limits {
    queries: Mutex<Queries>,
    connections: AtomicUsize,
}

/// What became of a query's claim on the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Granted,
    /// Beyond the budget; `report` is true once a second, so that a flood of queries is no flood of records.
    Beyond {
        report: bool,
    },
}

/// Queries that a sandbox may ask at once: a package manager asks some hundreds when it starts.
const BURST: u16 = 1000;

/// Queries a second that it may go on asking.
const RATE: u16 = 200;

/// Time between two reports of a budget that is used up.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// TCP connections that a sandbox may hold to the daemon's DNS.
const CONNECTIONS: usize = 32;

impl Limits {
    /// Makes a full budget.
    pub fn new() -> Self {
        Self {
            queries: Mutex::new(Queries {
                budget: Budget::new(BURST, RATE),
                reported: None,
            }),
            connections: AtomicUsize::new(0),
        }
    }

    pub(super) fn claim(&self) -> Claim {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.claim()
    }

    /// Counts a connection, until the guard is dropped; `None` beyond the bound.
    pub(super) fn connection(&self) -> Option<ConnectionGuard<'_>> {
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < CONNECTIONS).then_some(open + 1)
            })
            .ok()
            .map(|_| ConnectionGuard(&self.connections))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// One TCP connection of a sandbox to the daemon's DNS.
pub(super) struct ConnectionGuard<'a>(&'a AtomicUsize);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Queries {
    budget: Budget,
    reported: Option<Instant>,
}

impl Queries {
    fn claim(&mut self) -> Claim {
        if self.budget.spend() {
            return Claim::Granted;
        }
        let now = Instant::now();
        let report = self
            .reported
            .is_none_or(|at| now.saturating_duration_since(at) >= REPORT_EVERY);
        if report {
            self.reported = Some(now);
        }
        Claim::Beyond { report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reports_a_flood_once_a_second() {
        let limits = Limits::new();
        let mut reports = 0;
        for _ in 0..30 {
            for _ in 0..2000 {
                reports += usize::from(limits.claim() == Claim::Beyond { report: true });
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(reports, 3);
    }

    #[test]
    fn counts_connections_until_they_end() {
        let limits = Limits::new();
        let held: Vec<_> = (0..40).filter_map(|_| limits.connection()).collect();
        assert_eq!(held.len(), 32);
        drop(held);
        assert!(limits.connection().is_some());
    }
}
