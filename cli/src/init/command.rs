//! Starts the command, which inherits the confinement of the init.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{SigSet, Signal},
    unistd::Pid,
};

use super::{InitError, Plan};

/// The command while it runs.
pub(super) struct Supervised {
    /// Its process, and its process group when it has one of its own.
    pub pid: Pid,
    /// Whether it has a process group of its own.
    pub own_group: bool,
    /// Whether that group is to be the terminal's foreground.
    pub foreground: bool,
}

/// Starts the command of `plan`.
pub(super) fn start(plan: &Plan, stdin: Option<OwnedFd>) -> Result<Supervised, InitError> {
    // A mask is inherited: ours is what `ersatz run` holds back, and what we wait for later.
    hold_back(&[])?;
    let (program, arguments) = plan
        .command
        .split_first()
        .ok_or_else(|| InitError::Control(io::ErrorKind::InvalidData.into()))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(plan.environment.iter().map(|(k, v)| (k, v)));
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    if plan.own_group {
        command.process_group(0);
    }
    let child = command.spawn().map_err(|source| InitError::Command {
        program: program.to_string_lossy().into_owned(),
        source,
    })?;
    // The supervision waits for the one; the other must not stop us when we set the foreground.
    hold_back(&[Signal::SIGCHLD, Signal::SIGTTOU])?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    Ok(Supervised {
        pid,
        own_group: plan.own_group,
        foreground: plan.foreground,
    })
}

/// Sets this process's signal mask.
fn hold_back(signals: &[Signal]) -> Result<(), InitError> {
    let mask: SigSet = signals.iter().copied().collect();
    mask.thread_set_mask()
        .map_err(|error| InitError::Privilege {
            what: "set the signal mask",
            source: error.into(),
        })
}
