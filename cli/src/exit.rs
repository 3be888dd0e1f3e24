//! Exit codes of `ersatz`, a part of its interface.
//!
//! `ersatz run` ends with its command's own code, so its own failures use the
//! codes that shells, `env` and `docker run` use for the same things.

use std::process::ExitCode;

/// `ersatz` itself failed: bad arguments, no rights, no sandbox.
pub const FAILED: u8 = 125;
/// The command was found and cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;
/// A command that signal `n` ended gives this plus `n`.
pub const SIGNAL: u8 = 128;

/// The code of a command that was ended by a signal.
pub fn by_signal(signal: i32) -> u8 {
    u8::try_from(signal).map_or(FAILED, |signal| SIGNAL.saturating_add(signal))
}

/// Says on standard error what failed, with all causes, and gives [`FAILED`].
pub fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("ersatz: {error:#}");
    ExitCode::from(FAILED)
}

/// The closing part of `ersatz --help`.
pub const HELP: &str = "\
Exit codes:
  125    ersatz itself failed
  126    the command cannot be executed
  127    the command was not found
  128+n  signal n ended the command
  else   the command's own exit code

Examples:
  sudo --preserve-env=REAL_GITHUB_TOKEN ersatz run -f policy.yaml -- git push
  sudo -E ersatz run -f policy.yaml --audit audit.jsonl -- claude
  ersatz policy check policy.yaml
  ersatz policy explain -f policy.yaml --request 'GET https://api.github.com/user'
  sudo ersatz doctor";
