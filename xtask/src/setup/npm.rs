//! Real agents, as npm has them, pinned, under `target/agents`.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use super::{announce, apt};
use crate::{process, workspace};

/// The agents, with versions; npm's own format.
const MANIFEST: &str = include_str!("../../../tests/agents/package.json");

pub(super) fn ensure() -> Result<()> {
    if process::which("npm").is_none() {
        apt::install(&["nodejs", "npm"])?;
    }
    let agents = workspace::agents();
    let stamp = agents.join("installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == MANIFEST) {
        return Ok(());
    }
    announce("npm packages of tests/agents/package.json into target/agents (a few minutes)");
    fs::create_dir_all(&agents)?;
    fs::write(agents.join("package.json"), MANIFEST)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&agents);
    process::run_quietly(&mut npm)?;
    fs::write(&stamp, MANIFEST).context("cannot note what is installed")
}
