//! Programs that the distribution has.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::announce;
use crate::{privilege, process};

/// A program and the Debian package that has it.
pub(super) struct Program {
    name: &'static str,
    package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

/// What links, and compiles the C part of the TLS provider.
pub(super) const BUILD: &[Program] = &[program("cc", "build-essential")];

/// What the scenarios run: clients as they are, and tools for namespaces.
pub(super) const CLIENTS: &[Program] = &[
    program("curl", "curl"),
    program("git", "git"),
    program("wget", "wget"),
    program("node", "nodejs"),
    program("openssl", "openssl"),
    program("ip", "iproute2"),
    program("nsenter", "util-linux"),
    program("unshare", "util-linux"),
    program("taskset", "util-linux"),
    program("mount", "mount"),
];

/// Installs the packages of those programs that are not in `PATH`.
pub(super) fn ensure(programs: &[Program]) -> Result<()> {
    let mut missing: Vec<&str> = programs
        .iter()
        .filter(|program| process::which(program.name).is_none())
        .map(|program| program.package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        Ok(())
    } else {
        install(&missing)
    }
}

/// Installs packages, or says what to type.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if process::which("apt-get").is_none() {
        bail!("missing: install the equivalents of these Debian packages: {names}");
    }
    if !privilege::is_root() {
        bail!("missing packages; run: sudo apt-get install -y --no-install-recommends {names}");
    }
    announce(format_args!("apt-get install {names}"));
    if !known(packages) {
        process::run_quietly(apt_get().arg("update")).context("cannot update the package lists")?;
    }
    if install_once(packages).is_err() {
        // The lists may be older than the archive: packages they name are gone.
        process::run_quietly(apt_get().arg("update")).context("cannot update the package lists")?;
        install_once(packages)?;
    }
    Ok(())
}

fn install_once(packages: &[&str]) -> Result<()> {
    process::run_quietly(
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
}

fn known(packages: &[&str]) -> bool {
    Path::new("/var/lib/apt/lists").exists()
        && process::output(Command::new("apt-cache").arg("show").args(packages)).is_some()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
    command
}
