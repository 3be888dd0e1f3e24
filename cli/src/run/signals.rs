//! Signals to `ersatz run`, which are the command's.

use std::thread;

use anyhow::Context;
use nix::{
    libc,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use tokio::sync::mpsc;

/// The signals that are passed on.
const FORWARDED: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
];

/// Signals that end `ersatz run` while there is no command yet.
const ENDING: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
];

/// Signals that may wait to be passed on; more of them wait in the kernel, each kind once.
const WAITING: usize = 16;

/// Signals that are held back; they wait to be listened to.
pub(super) struct Held(SignalFd);

/// Signals as they arrive.
pub(super) struct Signals {
    arriving: mpsc::Receiver<Arrived>,
    /// One that came while there was no command to end yet.
    seen: Option<i32>,
}

/// A signal, and whether the terminal made it; such ones reach the command anyway
/// when it shares our process group.
pub(super) struct Arrived {
    pub number: i32,
    pub from_terminal: bool,
}

/// Holds the signals back from now on, in this thread and those it starts.
pub(super) fn hold_back() -> anyhow::Result<Held> {
    let mut set = SigSet::empty();
    for signal in FORWARDED {
        set.add(*signal);
    }
    let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC);
    let queue = queue.context("cannot wait for signals")?;
    // To set the terminal's foreground back must not stop us.
    set.add(Signal::SIGTTOU);
    set.thread_block().context("cannot hold signals back")?;
    Ok(Held(queue))
}

impl Held {
    /// Listens to them, in a thread that waits for them until this process ends.
    pub(super) fn listen(self) -> anyhow::Result<Signals> {
        let (sender, receiver) = mpsc::channel(WAITING);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                while let Ok(Some(signal)) = self.0.read_signal() {
                    let arrived = Arrived {
                        number: i32::try_from(signal.ssi_signo).unwrap_or_default(),
                        from_terminal: signal.ssi_code == libc::SI_KERNEL,
                    };
                    if sender.blocking_send(arrived).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Signals {
            arriving: receiver,
            seen: None,
        })
    }
}

impl Signals {
    /// The next signal; cancel-safe.
    pub(super) async fn next(&mut self) -> Arrived {
        match self.arriving.recv().await {
            Some(signal) => signal,
            // The thread could not read: then there are no signals any more.
            None => std::future::pending().await,
        }
    }

    /// The signal that ended this run before there was a command.
    pub(super) fn seen(&self) -> Option<i32> {
        self.seen
    }

    /// Awaits `future`, which should not be left half done: a first signal to end is
    /// remembered, only a second ends the wait.
    pub(super) async fn outlasted_by<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, i32> {
        let mut future = std::pin::pin!(future);
        loop {
            let signal = tokio::select! {
                result = &mut future => return Ok(result),
                signal = self.next() => signal.number,
            };
            if !ENDING.iter().any(|one| *one as i32 == signal) {
                continue;
            }
            if self.seen.replace(signal).is_some() {
                return Err(signal);
            }
        }
    }
}
