//! Python's packages, pinned, in environments under `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{announce, apt};
use crate::{process, workspace};

/// An environment and what is installed into it.
pub(super) struct Environment {
    place: fn() -> PathBuf,
    /// The file, from the workspace's root, and what it says: names with versions.
    file: &'static str,
    requirements: &'static str,
}

/// What the scenarios import.
pub(super) const CLIENTS: Environment = Environment {
    place: workspace::venv,
    file: "tests/requirements.txt",
    requirements: include_str!("../../../tests/requirements.txt"),
};

/// What the bench measures ersatz against.
pub(super) const PROXIES: Environment = Environment {
    place: workspace::bench_venv,
    file: "bench/requirements.txt",
    requirements: include_str!("../../../bench/requirements.txt"),
};

pub(super) fn ensure(environment: &Environment) -> Result<()> {
    let venv = (environment.place)();
    let stamp = venv.join("ersatz-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == environment.requirements) {
        return Ok(());
    }
    announce(format_args!("PyPI packages of {}", environment.file));
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
    pip.arg(workspace::root().join(environment.file));
    process::run_quietly(&mut pip)?;
    fs::write(&stamp, environment.requirements).context("cannot note what is installed")
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
