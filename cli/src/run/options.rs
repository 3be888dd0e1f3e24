//! The options of `ersatz run`.

use std::{ffi::OsString, path::PathBuf};

/// Run a command in a sandbox that holds stubs in the place of credentials.
///
/// The command sees this machine's files as its user does, but reaches no network
/// other than what the policy allows; the real credentials stay outside. Needs root;
/// under sudo the command runs as the user who called it.
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Options {
    /// Read credentials and policies from FILE; may be repeated. Without it, those of ersatzd are used
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The policy by name; needed when there is more than one
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Run the command as USER, a name or a number [default: who called sudo, else oneself]
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
    /// Write audit records to FILE, "-" for standard error; only without a running ersatzd
    #[arg(long, value_name = "FILE|-")]
    pub audit: Option<PathBuf>,
    /// The sandbox's name in audit records [default: the command's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Start with an almost empty environment: home, user, path, terminal and language
    #[arg(long)]
    pub no_env: bool,
    /// With --no-env: pass the variable NAME on; may be repeated
    #[arg(long, value_name = "NAME", requires = "no_env")]
    pub keep_env: Vec<OsString>,
    /// Say what happens on standard error, refusals included
    #[arg(short, long)]
    pub verbose: bool,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

const AFTER: &str = "\
Exit codes: those of the command; 125 ersatz itself failed, 126 the command cannot be
executed, 127 it was not found, 128+n signal n ended it.

Examples:
  sudo --preserve-env=REAL_GITHUB_TOKEN ersatz run -f policy.yaml -- git clone https://github.com/acme/app
  sudo -E ersatz run -f policy.yaml --audit audit.jsonl -- claude
  sudo ersatz run --policy coding-agents --as agent -- bash      (served by a running ersatzd)";
