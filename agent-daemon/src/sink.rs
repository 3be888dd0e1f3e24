//! A sink for lines that never makes its callers wait.
//!
//! Workers append whole lines to a bounded buffer in memory; a thread of the
//! sink's own writes them out in batches. A full disk, a stopped reader or a
//! flood costs lines, which are counted and leave a mark in the output; it
//! never costs a worker's time. A line is written whole or not at all: what a
//! short write left over is what the next write begins with.
//!
//! One sandbox may fill at most a quarter of the buffer ([`Share`]), so that
//! its flood does not push its neighbours' lines out.

mod output;
mod writer;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;

pub use self::output::{OpenError, Target};
use self::{output::Output, writer::Writer};

/// Lines held while the output stands still: 4 MiB, about 10,000 audit
/// records, or a fifth of a second at 50,000 requests a second.
pub const BUFFER_BYTES: usize = 4 << 20;

/// What one [`Share`] may hold of the buffer.
pub const SHARE_BYTES: usize = BUFFER_BYTES / 4;

/// A batch is written at the latest this long after its first line.
pub const BATCH_TIME: Duration = Duration::from_millis(10);

/// A batch of this size is written at once.
const BATCH_BYTES: usize = 256 << 10;

/// How long the last handle waits for the rest to be written.
const CLOSE_TIME: Duration = Duration::from_millis(200);

/// A handle to a sink; the last one to go closes it.
#[derive(Clone)]
pub struct Sink {
    handle: Arc<Handle>,
}

/// The count of a sink's losses, which keeps no sink open.
#[derive(Clone)]
pub struct Losses(Arc<Shared>);

/// Makes the line that stands for `lost` lines which were not written.
pub type LossMark = fn(lost: u64) -> String;

/// What one party has in the batch that is being filled.
#[derive(Default)]
pub struct Share {
    batch: AtomicU32,
    bytes: AtomicUsize,
}

struct Handle {
    shared: Arc<Shared>,
    /// Disconnected when the writer has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    lost: AtomicU64,
    /// Lines that have left the buffer for good, written or given up.
    done: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    /// Lines ever taken into `pending`.
    appended: u64,
    batch: u32,
    urgent: bool,
    reopen: bool,
    closed: bool,
}

impl Sink {
    /// Opens the target and starts the writing thread, called `name`.
    pub fn open(name: &str, target: Target, mark: LossMark) -> Result<Sink, OpenError> {
        let output = Output::open(target)?;
        let (running, ended) = mpsc::channel();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            lost: AtomicU64::new(0),
            done: watch::Sender::new(0),
        });
        let writer = Writer::new(shared.clone(), output, mark, running);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        Ok(Sink {
            handle: Arc::new(Handle {
                shared,
                ended: Mutex::new(ended),
            }),
        })
    }

    /// Takes a line, which ends in a line feed; false when there was no room
    /// and the line is lost.
    pub fn append(&self, line: &[u8], share: &Share) -> bool {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let before = state.pending.len();
        if before + line.len() > BUFFER_BYTES || !share.take(state.batch, line.len()) {
            drop(state);
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.pending.extend_from_slice(line);
        state.appended += 1;
        let after = state.pending.len();
        drop(state);
        if before == 0 || (before < BATCH_BYTES && after >= BATCH_BYTES) {
            shared.wake.notify_one();
        }
        true
    }

    /// Waits until every line taken so far is written, or lost at closing.
    ///
    /// Cancel-safe. Waits as long as the output stands still: give it a limit.
    pub async fn flush(&self) {
        let appended = {
            let mut state = self.handle.shared.lock();
            state.urgent = true;
            state.appended
        };
        self.handle.shared.wake.notify_one();
        let mut done = self.handle.shared.done.subscribe();
        // An error means that the writer is gone, and nothing more will be written.
        let _ = done.wait_for(|done| *done >= appended).await;
    }

    /// Opens a file target anew at once, as after a rotation.
    pub fn reopen(&self) {
        self.handle.shared.lock().reopen = true;
        self.handle.shared.wake.notify_one();
    }

    /// Lines that were not written, ever.
    pub fn lost(&self) -> u64 {
        self.losses().count()
    }

    /// The count of lines that were not written, for after the sink.
    pub fn losses(&self) -> Losses {
        Losses(self.handle.shared.clone())
    }
}

impl Losses {
    pub fn count(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Called with the sink's lock held, so that plain loads and stores do.
    fn take(&self, batch: u32, bytes: usize) -> bool {
        let same = self.batch.load(Ordering::Relaxed) == batch;
        let held = if same {
            self.bytes.load(Ordering::Relaxed)
        } else {
            0
        };
        if held + bytes > SHARE_BYTES {
            return false;
        }
        self.batch.store(batch, Ordering::Relaxed);
        self.bytes.store(held + bytes, Ordering::Relaxed);
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a state left by a panic is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Both outcomes are fine: the writer has ended, or it stands still and is left behind.
        let _ = ended.recv_timeout(CLOSE_TIME);
    }
}

#[cfg(test)]
mod tests;
