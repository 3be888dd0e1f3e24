//! Where a secret comes from.
//!
//! Sources are data here; only the daemon reads them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Problems;
use crate::lists::refuse_empty;
use crate::place::FieldPath;
use crate::span::Span;

/// A source as it is written: exactly one of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<EnvSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecSource>,
}

/// A variable of the daemon's own environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvSource {
    pub name: String,
}

/// A file that holds the secret and nothing else but a final line break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    pub path: PathBuf,
}

/// A command whose standard output is the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecSource {
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// How long it may run. 10 s unless given, 5 min at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How long its answer is used before it is run again. 5 min unless given, 1 s at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    Env {
        name: String,
    },
    /// The path is absolute when the resource was loaded from a file.
    File {
        path: PathBuf,
    },
    Exec {
        command: Vec<String>,
        timeout: Duration,
        ttl: Duration,
    },
}

impl SourceSpec {
    pub(crate) fn compile(
        &self,
        base: &Path,
        at: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Source> {
        match self {
            Self {
                env: Some(source),
                file: None,
                exec: None,
            } => source.compile(&at.field("env"), problems),
            Self {
                env: None,
                file: Some(source),
                exec: None,
            } => source.compile(base, &at.field("file"), problems),
            Self {
                env: None,
                file: None,
                exec: Some(source),
            } => source.compile(&at.field("exec"), problems),
            _ => {
                let hint = Some(
                    "write {env: {name: …}}, {file: {path: …}} or {exec: {command: […]}}"
                        .to_owned(),
                );
                problems.add(
                    at.clone(),
                    "exactly one of `env`, `file`, `exec` is needed",
                    hint,
                );
                None
            }
        }
    }
}

impl EnvSource {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> Option<Source> {
        if !is_variable(&self.name) {
            problems.add(at.field("name"), NOT_A_VARIABLE, None);
            return None;
        }
        Some(Source::Env {
            name: self.name.clone(),
        })
    }
}

impl FileSource {
    fn compile(&self, base: &Path, at: &FieldPath, problems: &mut Problems) -> Option<Source> {
        if self.path.as_os_str().is_empty() || self.path.as_os_str().as_encoded_bytes().contains(&0)
        {
            problems.add(at.field("path"), "this is not a path", None);
            return None;
        }
        Some(Source::File {
            path: base.join(&self.path),
        })
    }
}

impl ExecSource {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> Option<Source> {
        let before = problems.len();
        let command = at.field("command");
        refuse_empty(&self.command, &command, problems);
        if self.command.first().is_some_and(String::is_empty) {
            problems.add(command.item(0), "the program has no name", None);
        }
        for (index, argument) in self.command.iter().enumerate() {
            if argument.contains('\0') {
                problems.add(command.item(index), "an argument cannot hold NUL", None);
            }
        }
        let timeout = Duration::from(self.timeout.unwrap_or(Span::from_secs(10)));
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            problems.add(
                at.field("timeout"),
                "the command may run for more than 0s and at most 5m",
                None,
            );
        }
        let ttl = Duration::from(self.ttl.unwrap_or(Span::from_secs(300)));
        if ttl < SHORTEST_TTL {
            problems.add(at.field("ttl"), "the answer is used for 1s at least", None);
        }
        (problems.len() == before).then(|| Source::Exec {
            command: self.command.clone(),
            timeout,
            ttl,
        })
    }
}

/// A portable name of a variable (POSIX.1-2017, section 8.1, and lower case).
pub(crate) fn is_variable(name: &str) -> bool {
    let tail = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    tail && name.len() <= 255
        && name
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit())
}

pub(crate) const NOT_A_VARIABLE: &str = "this is not the name of an environment variable: letters, digits and _ only, and no digit in front";

/// A request waits for the command: nobody waits longer than this for an answer.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(5);
/// One command a second for a credential at most.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
