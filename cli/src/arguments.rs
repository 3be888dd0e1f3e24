//! The command line of `ersatz`.

use clap::{Parser, Subcommand};

use crate::{doctor, exit, policy, run};

/// Runs agents with stub credentials; the real ones never enter the sandbox.
#[derive(Parser)]
#[command(name = "ersatz", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `ersatz`.
#[derive(Subcommand)]
pub enum Command {
    /// Run a command in a sandbox that holds stubs in the place of credentials
    Run(run::Options),
    /// Say what this kernel and machine can do, what is missing, and how to get it
    Doctor(doctor::Options),
    /// Check policies, and explain what they decide
    Policy(policy::Command),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn everything_after_the_dashes_belongs_to_the_command() {
        let words = [
            "ersatz",
            "run",
            "-f",
            "p.yaml",
            "--",
            "git",
            "--version",
            "--audit",
            "x",
        ];
        let Ok(Arguments {
            command: Command::Run(options),
        }) = Arguments::try_parse_from(words)
        else {
            panic!("not parsed as a run");
        };
        assert_eq!(options.command, ["git", "--version", "--audit", "x"]);
        assert!(options.audit.is_none());
    }

    #[test]
    fn a_run_without_a_command_is_refused() {
        assert!(Arguments::try_parse_from(["ersatz", "run", "-f", "p.yaml"]).is_err());
    }
}
