//! Root: who has it, and how a program is given it.

use std::{ffi::OsStr, process::Command};

use anyhow::{Result, bail};

use crate::process;

/// Whether this process may make namespaces, load programs and install packages.
pub(crate) fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_some_and(|uid| uid.trim() == "0")
}

/// A command that runs with root's rights, through sudo where that is needed.
pub(crate) fn elevated(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if process::which("sudo").is_none() {
        bail!("this needs root (network namespaces and eBPF) and there is no sudo: run it as root");
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg(program);
    Ok(command)
}
