//! Envoy, as somebody would set it up to do the same by hand: TLS terminated
//! with a certificate made beforehand, a route for the stub that overwrites the
//! header, upstream connections pooled and verified, one access record a request.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use super::Programs;
use crate::lab::{
    Lab, REAL, STUB, UPSTREAM,
    process::{self, Core},
};

const TEMPLATE: &str = include_str!("envoy.yaml");

pub(super) fn command(listen: &str, lab: &Lab, programs: &Programs) -> Result<Command> {
    let (address, port) = listen.split_once(':').context("an address with a port")?;
    let config = TEMPLATE
        .replace("@ADDRESS@", address)
        .replace("@PORT@", port)
        .replace("@DIR@", &lab.dir().to_string_lossy())
        .replace("@STUB@", &format!("Bearer {STUB}"))
        .replace("@REAL@", &format!("Bearer {REAL}"))
        .replace("@UPSTREAM@", UPSTREAM);
    let path = lab.dir().join("envoy.yaml");
    fs::write(&path, config)?;
    let mut command = process::pinned(Core::Proxy, &binary(programs)?);
    command.arg("--config-path").arg(path);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
    ]);
    Ok(command)
}

/// The program in the wheel, without the Python in front of it.
fn binary(programs: &Programs) -> Result<std::path::PathBuf> {
    let lib = programs.venv.join("lib");
    for python in fs::read_dir(&lib).with_context(|| lib.display().to_string())? {
        let path = python?.path().join("site-packages/envoy/_bin/envoy");
        if path.exists() {
            return Ok(path);
        }
    }
    bail!(
        "no Envoy in {}: run `cargo xtask bench`, which installs it",
        programs.venv.display()
    )
}
