//! mitmproxy with an add-on that swaps the header, bodies streamed, HTTP/2 on.

use std::{fs, process::Command};

use anyhow::Result;

use super::Programs;
use crate::{
    HOST,
    lab::{
        Lab, REAL, STUB,
        process::{self, Core},
    },
};

const ADDON: &str = include_str!("swap.py");

pub(super) fn command(port: u16, lab: &Lab, programs: &Programs) -> Result<Command> {
    let addon = lab.dir().join("swap.py");
    fs::write(&addon, ADDON)?;
    let trust = lab.dir().join("ca.pem");
    let certificate = lab.dir().join("proxy.both.pem");
    let mut command = process::pinned(Core::Proxy, &programs.venv.join("bin/mitmdump"));
    command.args([
        "--quiet",
        "--mode",
        &format!("reverse:https://{HOST}@{port}"),
    ]);
    command
        .arg("--certs")
        .arg(format!("*={}", certificate.display()));
    command.arg("--set").arg(format!(
        "ssl_verify_upstream_trusted_ca={}",
        trust.display()
    ));
    command
        .arg("--set")
        .arg(format!("confdir={}", lab.dir().join("mitmproxy").display()));
    command.args([
        "--set",
        "connection_strategy=lazy",
        "--set",
        "keep_host_header=true",
    ]);
    command.arg("--scripts").arg(addon);
    command
        .env("SWAP_STUB", format!("Bearer {STUB}"))
        .env("SWAP_REAL", format!("Bearer {REAL}"));
    command.env("SWAP_LOG", lab.dir().join("mitmproxy.jsonl"));
    Ok(command)
}
