//! `ersatz doctor`: what this kernel and machine can do, what is missing, how to get it.
//!
//! A check looks at one fact and, where root makes it possible, tries the thing
//! itself. Every finding that is not good says what to do.

mod checks;
mod report;

use std::process::ExitCode;

use serde::Serialize;

/// Say what this kernel and machine can do, what is missing, and how to get it.
#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 ready, 1 something needed is missing, 125 ersatz itself failed."
)]
pub struct Options {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Good,
    /// Works, but less well or less safely.
    Warn,
    /// Sandboxes cannot be made.
    Missing,
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            name,
            status: Status::Good,
            found: found.into(),
            remedy: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: &'static str) -> Finding {
        Finding {
            name,
            status: Status::Warn,
            found: found.into(),
            remedy: Some(remedy),
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: &'static str) -> Finding {
        Finding {
            name,
            status: Status::Missing,
            found: found.into(),
            remedy: Some(remedy),
        }
    }
}

/// Runs all checks, prints what they found, and says whether sandboxes can be made.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let findings = checks::all();
    match options.output {
        Output::Text => report::text(&findings),
        Output::Json => report::json(&findings)?,
    }
    let ready = findings
        .iter()
        .all(|finding| finding.status != Status::Missing);
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
