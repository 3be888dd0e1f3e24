//! One record a request, one a refused connection or name, as JSON lines.
//!
//! A record holds an allow-listed set of fields, never a query, a header or a
//! body. All that a tenant chose is escaped to visible ASCII and cut to a
//! bound, so that no record can forge another or drive a terminal. Recording
//! costs a worker a few hundred nanoseconds and never a wait ([`Sink`]): a
//! record that finds no room is lost, counted, and leaves a mark in the file.
//! The fields are described in SPECIFICATION.md.

mod json;
mod record;
mod stamp;

use std::cell::RefCell;

use crate::sink::{self, OpenError, Sink};

pub(crate) use self::json::ascii;
pub use self::record::{Protocol, Record, RecordId, SandboxTag, Subject, Swap, Verdict};

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    To(sink::Target),
    #[default]
    Off,
}

/// A handle to the audit log; cheap to clone.
#[derive(Clone)]
pub struct Audit {
    sink: Option<Sink>,
}

thread_local! {
    /// A line under construction: its memory is used again for the next.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Audit {
    pub fn open(target: Target) -> Result<Audit, OpenError> {
        let sink = match target {
            Target::To(target) => Some(Sink::open("ersatz-audit", target, loss_mark)?),
            Target::Off => None,
        };
        Ok(Audit { sink })
    }

    /// Records; never waits for the output.
    pub fn record(&self, record: &Record<'_>) {
        let Some(sink) = &self.sink else { return };
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.write(line);
            sink.append(line, record.sandbox.share());
        });
    }

    /// Waits until everything recorded so far is written. Cancel-safe; waits
    /// as long as the output stands still, so give it a limit.
    pub async fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush().await;
        }
    }

    /// Opens the file anew after a rotation (SIGHUP); a renamed file is also
    /// noticed without it, within a second of the next record.
    pub fn reopen(&self) {
        if let Some(sink) = &self.sink {
            sink.reopen();
        }
    }

    /// Records that were not written, ever.
    pub fn lost(&self) -> u64 {
        self.sink.as_ref().map_or(0, Sink::lost)
    }
}

fn loss_mark(lost: u64) -> String {
    let mut line = br#"{"time":""#.to_vec();
    stamp::write(&mut line, std::time::SystemTime::now());
    let time = String::from_utf8_lossy(&line);
    format!("{time}\",\"event\":\"records-lost\",\"records\":{lost}}}\n")
}

#[cfg(test)]
mod tests;
