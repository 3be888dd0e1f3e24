//! The measured window, and what fell into it.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::say;
use crate::job::{Job, Message, Outcome};

/// Shared by all tasks of a job, which run on one thread.
#[derive(Default)]
pub(crate) struct Recorder {
    phase: Cell<Phase>,
    latencies: RefCell<Vec<u32>>,
    units: Cell<u64>,
    errors: Cell<u64>,
    error: RefCell<Option<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Warmup,
    Measure,
    Over,
}

impl Recorder {
    /// Lets the tasks warm up, opens the window for the job's time, and closes it.
    pub(crate) async fn window(&self, job: &Job) -> Result<Duration> {
        tokio::time::sleep(Duration::from_millis(job.warmup_ms)).await;
        let begin = self.open()?;
        tokio::time::sleep(Duration::from_millis(job.duration_ms)).await;
        self.phase.set(Phase::Over);
        Ok(begin.elapsed())
    }

    /// Opens the window and tells the coordinator.
    pub(crate) fn open(&self) -> Result<Instant> {
        say(&Message::Begin)?;
        self.phase.set(Phase::Measure);
        Ok(Instant::now())
    }

    pub(crate) fn over(&self) -> bool {
        self.phase.get() == Phase::Over
    }

    /// One unit of work done, and how long it took.
    pub(crate) fn done(&self, took: Duration) {
        if self.phase.get() == Phase::Measure {
            self.units.set(self.units.get() + 1);
            let nanos = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
            self.latencies.borrow_mut().push(nanos);
        }
    }

    pub(crate) fn measured(&self) -> u64 {
        self.units.get()
    }

    /// An error counts in every phase: it voids the run.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        if self.over() {
            return;
        }
        self.errors.set(self.errors.get() + 1);
        self.error
            .borrow_mut()
            .get_or_insert_with(|| format!("{error:#}"));
    }

    pub(crate) fn outcome(&self, window: Duration) -> Outcome {
        let mut latencies = self.latencies.borrow_mut();
        latencies.sort_unstable();
        Outcome {
            seconds: window.as_secs_f64(),
            units: self.units.get(),
            errors: self.errors.get(),
            error: self.error.borrow().clone(),
            p50_us: percentile(&latencies, 50),
            p99_us: percentile(&latencies, 99),
        }
    }
}

/// The value in microseconds below which `percent` of the sorted nanoseconds lie.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted
        .get(index)
        .map_or(0.0, |&nanos| f64::from(nanos) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_values() {
        let values: Vec<u32> = (1..=100).map(|n| n * 1000).collect();
        assert!((percentile(&values, 50) - 51.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 99) - 100.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 99).abs() < f64::EPSILON);
    }
}
