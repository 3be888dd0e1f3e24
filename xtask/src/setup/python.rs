//! Python's clients, pinned, in an environment under `target/`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{announce, apt};
use crate::{process, workspace};

/// What the scenarios import, with versions.
const REQUIREMENTS: &str = include_str!("../../../tests/requirements.txt");

pub(super) fn ensure() -> Result<()> {
    let venv = workspace::venv();
    let stamp = venv.join("ersatz-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(());
    }
    announce("PyPI packages of tests/requirements.txt into target/venv");
    let python = interpreter()?;
    fs::create_dir_all(workspace::target())?;
    process::run_quietly(
        Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    pip.arg(workspace::root().join("tests/requirements.txt"));
    process::run_quietly(&mut pip)?;
    fs::write(&stamp, REQUIREMENTS).context("cannot note what is installed")
}

/// The distribution's own Python where it can make environments: one of a user's
/// home would be out of reach for a sandbox that runs as another user.
pub(super) fn interpreter() -> Result<&'static str> {
    const CANDIDATES: [&str; 2] = ["/usr/bin/python3", "python3"];
    let works = |python: &&&str| {
        process::output(Command::new(**python).args(["-c", "import ensurepip, venv"])).is_some()
    };
    if let Some(python) = CANDIDATES.iter().find(works) {
        return Ok(python);
    }
    apt::install(&["python3", "python3-venv"])?;
    if Path::new(CANDIDATES[0]).exists() {
        return Ok(CANDIDATES[0]);
    }
    bail!("no Python that can make virtual environments")
}
