//! The thread that writes a sink's batches.

use std::{
    io,
    mem::take,
    sync::{Arc, PoisonError, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use tracing::warn;

use super::{BATCH_BYTES, BATCH_TIME, LossMark, Shared, output::Output};

/// How often a write that failed is tried again.
const RETRY_TIME: Duration = Duration::from_millis(100);

/// How often an output that does not take lines is complained about.
const WARN_TIME: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    shared: Arc<Shared>,
    output: Output,
    mark: LossMark,
    /// Losses that the output already has a mark of.
    marked: u64,
    warned: Option<Instant>,
    _running: mpsc::Sender<()>,
}

/// What the buffer gave up to be written.
struct Batch {
    bytes: Vec<u8>,
    /// Lines ever appended, up to and including this batch's.
    appended: u64,
    reopen: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        output: Output,
        mark: LossMark,
        running: mpsc::Sender<()>,
    ) -> Writer {
        Writer {
            shared,
            output,
            mark,
            marked: 0,
            warned: None,
            _running: running,
        }
    }

    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        while let Some(mut batch) = self.shared.next(spare) {
            self.follow(batch.reopen);
            self.mark_loss(&mut batch.bytes);
            self.write(&batch.bytes);
            self.shared.done.send_replace(batch.appended);
            spare = batch.bytes;
            spare.clear();
            spare.shrink_to(2 * BATCH_BYTES);
        }
    }

    fn follow(&mut self, told: bool) {
        if let Err(error) = self.output.follow(told) {
            self.complain(&error, "cannot follow the rotated file");
        }
    }

    /// Lines are refused only while the buffer is full, so that a mark stands
    /// after the last line before the gap.
    fn mark_loss(&mut self, bytes: &mut Vec<u8>) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost > self.marked {
            bytes.extend_from_slice((self.mark)(lost - self.marked).as_bytes());
            self.marked = lost;
            warn!(lost, "lines were lost: the output is too slow or full");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match self.stalled(&error, torn(bytes, rest)) {
                    Stall::Retry => {}
                    Stall::Skip => rest = self.give_up(rest, 1),
                    Stall::End => rest = self.give_up(rest, usize::MAX),
                },
            }
        }
    }

    /// Waits before the next attempt, and says what that attempt begins with.
    fn stalled(&mut self, error: &io::Error, torn: bool) -> Stall {
        if error.kind() == io::ErrorKind::WouldBlock {
            // A reader that is only slow is written to as fast as it reads.
            self.output.writable_within(RETRY_TIME);
        } else {
            self.complain(error, "cannot write");
        }
        let pause = match error.kind() {
            io::ErrorKind::WouldBlock => Duration::ZERO,
            _ => RETRY_TIME,
        };
        let told = {
            let state = self.shared.lock();
            if state.closed {
                return Stall::End;
            }
            let (mut state, _) = self
                .shared
                .wake
                .wait_timeout_while(state, pause, |state| !state.closed && !state.reopen)
                .unwrap_or_else(PoisonError::into_inner);
            take(&mut state.reopen)
        };
        if told {
            self.follow(true);
        }
        // The beginning of a torn line stayed in the old file.
        if told && torn {
            Stall::Skip
        } else {
            Stall::Retry
        }
    }

    /// Leaves out the next `lines` lines and counts them as lost.
    fn give_up<'a>(&self, rest: &'a [u8], lines: usize) -> &'a [u8] {
        let ends = memchr::memchr_iter(b'\n', rest).take(lines);
        let (count, end) = ends.fold((0, rest.len()), |(count, _), at| (count + 1, at + 1));
        self.shared.lost.fetch_add(count, Ordering::Relaxed);
        rest.get(end..).unwrap_or_default()
    }

    fn complain(&mut self, error: &(dyn std::error::Error + 'static), what: &'static str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_TIME) {
            self.warned = Some(Instant::now());
            warn!(error, "{what}");
        }
    }
}

enum Stall {
    Retry,
    Skip,
    End,
}

impl Shared {
    /// Waits for a batch; `None` when the sink is closed and all is taken.
    fn next(&self, spare: Vec<u8>) -> Option<Batch> {
        let mut state = self
            .wake
            .wait_while(self.lock(), |state| {
                state.pending.is_empty() && !state.closed && !state.reopen && !state.urgent
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !state.pending.is_empty() {
            let hurry = |state: &mut super::State| {
                !state.urgent && !state.closed && state.pending.len() < BATCH_BYTES
            };
            let waited = self.wake.wait_timeout_while(state, BATCH_TIME, hurry);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else if state.closed {
            return None;
        }
        state.urgent = false;
        state.batch = state.batch.wrapping_add(1);
        Some(Batch {
            bytes: std::mem::replace(&mut state.pending, spare),
            appended: state.appended,
            reopen: take(&mut state.reopen),
        })
    }
}

/// Whether `rest` begins in the middle of a line of `bytes`.
fn torn(bytes: &[u8], rest: &[u8]) -> bool {
    let written = bytes.len() - rest.len();
    written > 0 && bytes.get(written - 1) != Some(&b'\n')
}
