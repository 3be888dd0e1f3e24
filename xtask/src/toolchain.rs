//! Which compiler can build the eBPF programs on this machine.
//!
//! Either rustup's nightly with the sources of the standard library, or
//! Debian's `rustc-web` with a `core` that is already compiled for BPF.

use std::{fmt, path::Path, process::Command};

use crate::process;

/// Debian's compiler, wherever rustup's proxies stand in `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler for `bpfel-unknown-none`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toolchain {
    /// rustup's nightly, which compiles `core` from `rust-src`.
    Nightly,
    /// Debian's `rustc-web` and `libstd-rust-web-dev-bpf`.
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nightly => "rustup nightly with rust-src",
            Self::Debian => "Debian's rustc-web with a compiled core for BPF",
        })
    }
}

/// Finds one of the two, nightly first.
pub(crate) fn find() -> Option<Toolchain> {
    if has_core_sources() {
        Some(Toolchain::Nightly)
    } else if has_compiled_core() {
        Some(Toolchain::Debian)
    } else {
        None
    }
}

fn has_core_sources() -> bool {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    process::output(&mut rustc).is_some_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .is_file()
    })
}

fn has_compiled_core() -> bool {
    let mut rustc = Command::new(DEBIAN_RUSTC);
    rustc.args(["--print", "target-libdir", "--target", "bpfel-unknown-none"]);
    process::output(&mut rustc).is_some_and(|dir| {
        std::fs::read_dir(dir.trim()).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libcore"))
            })
        })
    })
}
