//! Worker threads: one per core, each with a runtime of its own.
//!
//! A connection lives on one worker from its first byte to its last, with its upstream, so that
//! no wake-up crosses cores and no pool is contended.

use std::{
    io,
    num::NonZeroUsize,
    thread::{self, JoinHandle},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The workers; dropping them ends their connections.
pub(crate) struct Workers {
    threads: Vec<Worker>,
}

struct Worker {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts as many workers as the process may use cores.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = (0..count).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    pub(crate) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Where to spawn what shall live on worker `index`, counted round.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.threads
            .iter()
            .map(|worker| worker.handle.clone())
            .collect()
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(format!("ersatz-worker-{index}"))
            .spawn(move || {
                // Ends when the sender is dropped as well.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has nothing more to say here.
            let _ = thread.join();
        }
    }
}
