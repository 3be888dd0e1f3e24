//! Logs by `tracing`: for people on a terminal, as JSON lines elsewhere.
//!
//! What a tenant chose may stand in a field: values are escaped to one line of
//! visible ASCII, so that no value can forge a line or drive a terminal. A log
//! that nobody reads holds nobody up: lines go through a [`Sink`]. The filter
//! is `ERSATZ_LOG` (as `info,ersatz_daemon=debug`).

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use rustix::{stdio, termios::isatty};
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt,
    fmt::{MakeWriter, format},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    audit::ascii,
    sink::{Losses, OpenError, Share, Sink, Target},
};

/// The variable that holds the filter.
pub const FILTER_VARIABLE: &str = "ERSATZ_LOG";

/// The log; what is still unwritten is written when it is dropped.
pub struct Log {
    sink: Sink,
}

/// Of the process's log.
static LOSSES: OnceLock<Losses> = OnceLock::new();

/// Lines of this process's log that were not written, ever.
pub fn lost() -> u64 {
    LOSSES.get().map_or(0, Losses::count)
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Human { colour: bool },
    Json,
}

impl Log {
    /// Starts logging to standard error. `default` is the filter where the
    /// variable does not say otherwise, for example `info`.
    ///
    /// A second start in one process keeps the first log's subscriber.
    pub fn start(default: &str) -> Result<Log, OpenError> {
        let terminal = isatty(stdio::stderr());
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        let style = if terminal {
            Style::Human { colour }
        } else {
            Style::Json
        };
        let sink = Sink::open("ersatz-log", Target::Stderr, loss_mark)?;
        let lines = Lines {
            sink: sink.clone(),
            share: Arc::default(),
            style,
        };
        let layer = layer(style, lines);
        // An error means that a subscriber is there already, as in tests.
        let _ = tracing_subscriber::registry()
            .with(layer.with_filter(filter(default)))
            .try_init();
        // Of several logs in one process, as in tests, the first is the one that is written to.
        let _ = LOSSES.set(sink.losses());
        Ok(Log { sink })
    }

    /// Waits until every line so far is written; give it a limit.
    pub async fn flush(&self) {
        self.sink.flush().await;
    }
}

fn filter(default: &str) -> EnvFilter {
    let given = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let directives = if given.is_empty() { default } else { &given };
    EnvFilter::builder().parse_lossy(directives)
}

fn layer<W>(style: Style, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt::layer().with_writer(writer);
    match style {
        Style::Json => base.json().flatten_event(true).boxed(),
        Style::Human { colour } => base
            .with_ansi(colour)
            .with_target(false)
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .boxed(),
    }
}

/// Writes a field of a human line; all that is not visible ASCII is escaped.
fn write_field(to: &mut format::Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(to, "{}=", field.name())?;
    }
    fmt::write(&mut Visible(to), format_args!("{value:?}"))
}

/// Passes on text as visible ASCII.
struct Visible<'a, 'b>(&'a mut format::Writer<'b>);

impl fmt::Write for Visible<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            ' '..='~' => self.0.write_char(c),
            _ => write!(self.0, "{}", c.escape_default()),
        })
    }
}

/// Makes a writer for each event, which hands its line to the sink whole.
struct Lines {
    sink: Sink,
    share: Arc<Share>,
    style: Style,
}

struct Line<'a> {
    lines: &'a Lines,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self }
    }
}

impl io::Write for Line<'_> {
    /// Called once an event, with all of it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let lines = self.lines;
        match (lines.style, std::str::from_utf8(event)) {
            (Style::Json, Ok(text)) if !text.is_ascii() => {
                lines.sink.append(&ascii_json(text), &lines.share);
            }
            _ => {
                lines.sink.append(event, &lines.share);
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Escapes what is beyond ASCII in a JSON text, where it can stand in strings only.
fn ascii_json(text: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 64);
    for part in text.split_inclusive(|c: char| !c.is_ascii()) {
        let plain = part.trim_end_matches(|c: char| !c.is_ascii());
        line.extend_from_slice(plain.as_bytes());
        ascii(&mut line, part.strip_prefix(plain).unwrap_or_default());
    }
    line
}

fn loss_mark(lost: u64) -> String {
    format!("{{\"level\":\"WARN\",\"message\":\"log lines were lost\",\"lost\":{lost}}}\n")
}

#[cfg(test)]
mod tests;
