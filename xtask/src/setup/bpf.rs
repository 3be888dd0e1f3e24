//! The compiler and the linker for eBPF.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{announce, apt};
use crate::{privilege, process, toolchain};

/// The linker that goes with LLVM 22, which both compilers and the host's rustc have.
const LINKER_VERSION: &str = "0.10.4";
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];

pub(super) fn ensure() -> Result<()> {
    // An object that is there already needs neither (see `steering/build.rs`).
    if std::env::var_os("ERSATZ_EBPF_OBJECT").is_some() {
        return Ok(());
    }
    compiler()?;
    linker()
}

fn compiler() -> Result<()> {
    if toolchain::find().is_some() {
        return Ok(());
    }
    if process::which("apt-get").is_none() || !privilege::is_root() {
        bail!(
            "no compiler for eBPF; install one of the two:\n  \
             rustup toolchain install nightly --component rust-src\n  \
             sudo apt-get install -y --no-install-recommends {}",
            DEBIAN_PACKAGES.join(" ")
        );
    }
    apt::install(DEBIAN_PACKAGES).context(
        "no compiler for eBPF; where Debian's is not to be had, \
         use: rustup toolchain install nightly --component rust-src",
    )?;
    match toolchain::find() {
        Some(found) => {
            announce(format_args!("eBPF compiler: {found}"));
            Ok(())
        }
        None => bail!("Debian's compiler has no core for bpfel-unknown-none"),
    }
}

fn linker() -> Result<()> {
    if process::which("bpf-linker").is_some() {
        return Ok(());
    }
    announce(format_args!(
        "cargo install bpf-linker {LINKER_VERSION} (about 2 minutes)"
    ));
    let mut install = Command::new(env!("CARGO"));
    install.args([
        "install",
        "bpf-linker",
        "--locked",
        "--version",
        LINKER_VERSION,
    ]);
    process::run_quietly(&mut install)?;
    if process::which("bpf-linker").is_none() {
        bail!("bpf-linker is installed but not found: put cargo's bin directory into PATH");
    }
    Ok(())
}
