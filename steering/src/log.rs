//! The programs' log records, as tracing events at debug level.
//!
//! The programs write at most 20 records a second and CPU, and none at all
//! unless debug was enabled for this target when they were loaded: what a
//! sandbox sends must not fill a log.

use std::os::fd::AsRawFd;

use aya_log::{EbpfLogger, Level};
use ersatz_ebpf_common::DropReason;
use log::{Log, Metadata, Record};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};
use tracing::{debug, enabled, warn};

use crate::programs::Programs;

/// The level that the programs are loaded with; 0 is silence.
pub(crate) fn level() -> u8 {
    if enabled!(target: "ersatz_steering::kernel", tracing::Level::DEBUG) {
        Level::Debug as u8
    } else {
        0
    }
}

/// Forwards the records until the task is aborted.
pub(crate) fn forward(programs: &mut Programs) -> Option<JoinHandle<()>> {
    let logger = EbpfLogger::init_with_logger(programs.ebpf(), Tracing)
        .inspect_err(|error| warn!(%error, "the kernel programs' log is not available"))
        .ok()?;
    if level() == 0 {
        return None;
    }
    // SAFETY: the logger owns the descriptor that `as_raw_fd` gives, and keeps
    // that one until it is dropped.
    #[expect(
        unsafe_code,
        reason = "tokio asks for the promise that the descriptor stays"
    )]
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let logger = logger
        .inspect_err(|error| warn!(%error, "the kernel programs' log is not available"))
        .ok()?;
    Some(tokio::spawn(drain(logger)))
}

async fn drain<T: Log>(mut logger: AsyncFd<EbpfLogger<T>>)
where
    EbpfLogger<T>: AsRawFd,
{
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}

struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let Some((link, reason, length)) = dropped(&text) else {
            return debug!(target: "ersatz_steering::kernel", "{text}");
        };
        debug!(
            target: "ersatz_steering::kernel",
            link,
            reason = reason.as_str(),
            length,
            "frame dropped"
        );
    }

    fn flush(&self) {}
}

/// Link, reason and length of a dropped frame, as the programs write them.
fn dropped(text: &str) -> Option<(u32, DropReason, u32)> {
    let mut numbers = text.split(' ').map(str::parse::<u32>);
    let (link, reason, length) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let reason = usize::try_from(reason.ok()?).ok()?;
    Some((link.ok()?, *DropReason::ALL.get(reason)?, length.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_programs_write() {
        let reason = DropReason::Vlan;
        let text = format!("12 {} 60", reason.index());
        assert_eq!(dropped(&text), Some((12, reason, 60)));
        for other in ["", "12 3", "12 999 60", "a b c"] {
            assert_eq!(dropped(other), None, "{other}");
        }
    }
}
