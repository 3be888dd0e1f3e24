//! What is asked for, and what is answered.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The one value of `Authorization` that is let in.
pub(crate) type Gate = Arc<str>;

/// The length of a small answer's body: a short JSON document.
pub(crate) const SMALL: usize = 256;

/// What is sent at once of a large answer.
pub(crate) const CHUNK: usize = 64 * 1024;

/// A parsed path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Small,
    /// Takes a body of any length, answers like [`Route::Small`].
    Sink,
    Bytes(u64),
    Events(Schedule),
}

/// When the events of a stream are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) count: u32,
    pub(crate) period: Duration,
    /// Time since the epoch of the first event.
    pub(crate) start: Duration,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match path {
            "/small" => Some(Self::Small),
            "/sink" => Some(Self::Sink),
            "/events" => Schedule::parse(query).map(Self::Events),
            _ => path.strip_prefix("/bytes/")?.parse().ok().map(Self::Bytes),
        }
    }
}

impl Schedule {
    fn parse(query: &str) -> Option<Self> {
        let value = |name: &str| -> Option<u64> {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
        };
        Some(Self {
            count: value("count")?.try_into().ok()?,
            period: Duration::from_secs(1)
                / u32::try_from(value("hz")?).ok().filter(|&hz| hz > 0)?,
            start: Duration::from_micros(value("start")?),
        })
    }

    /// Waits until event `n` is due and writes it: about what a token of a model's answer is.
    pub(crate) async fn event(&self, n: u32, text: &mut String) {
        let due = self.start + self.period * n;
        tokio::time::sleep(due.saturating_sub(now())).await;
        text.clear();
        let _ = write!(text, "data: {n} {} ", now().as_nanos());
        text.push_str(PADDING);
        text.push_str("\n\n");
    }
}

/// A delta as providers send it.
const PADDING: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#;

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        assert_eq!(Route::parse("/small"), Some(Route::Small));
        assert_eq!(Route::parse("/bytes/7"), Some(Route::Bytes(7)));
        assert_eq!(Route::parse("/bytes/x"), None);
        assert_eq!(Route::parse("/events?count=2&hz=0&start=1"), None);
        let Some(Route::Events(schedule)) = Route::parse("/events?count=2&hz=50&start=5") else {
            panic!("an event stream");
        };
        assert_eq!(schedule.period, Duration::from_millis(20));
    }
}
