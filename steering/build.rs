//! Builds the kernel programs, so that a plain `cargo build` is enough.
//!
//! The object comes from, in this order: `ERSATZ_EBPF_OBJECT`, a path to one
//! that was built elsewhere; rustup's nightly with `rust-src`, which compiles
//! `core` for BPF itself; Debian's `rustc-web`, which ships it compiled. The
//! programs run in the kernel of the machine that is built for, so its byte
//! order is theirs.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const HELP: &str = "\
the kernel programs cannot be built: no Rust compiler for BPF was found. Either of these is enough:

  * rustup:  rustup toolchain install nightly --component rust-src
  * Debian:  apt-get install --no-install-recommends rustc-web libstd-rust-web-dev-bpf

or set ERSATZ_EBPF_OBJECT to an object that was built elsewhere.";
const LINKER_HELP: &str = "\
the kernel programs cannot be built: bpf-linker was not found. Install it:

  cargo install bpf-linker --version 0.10.4 --locked

or set ERSATZ_EBPF_OBJECT to an object that was built elsewhere.";

fn main() -> ExitCode {
    match object() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Puts the object where the crate includes it from.
fn object() -> Result<(), String> {
    let root = required("CARGO_MANIFEST_DIR").map(PathBuf::from)?;
    let out = required("OUT_DIR").map(PathBuf::from)?;
    let repository = root.parent().ok_or("the crate has no parent directory")?;
    println!("cargo::rerun-if-env-changed=ERSATZ_EBPF_OBJECT");
    for source in [
        "ebpf/src",
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
        "ebpf-common/src",
        "ebpf-common/Cargo.toml",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            repository.join(source).display()
        );
    }
    let built = match env::var_os("ERSATZ_EBPF_OBJECT") {
        Some(given) => {
            println!("cargo::rerun-if-changed={}", Path::new(&given).display());
            PathBuf::from(given)
        }
        None => build(&repository.join("ebpf"), &out.join("ebpf"))?,
    };
    let object = out.join("ersatz-ebpf.o");
    fs::copy(&built, &object).map_err(|error| {
        format!(
            "cannot copy {} to {}: {error}",
            built.display(),
            object.display()
        )
    })?;
    Ok(())
}

/// A compiler that can make BPF programs.
enum Compiler {
    Nightly,
    Debian,
}

fn build(package: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let compiler = compiler().ok_or(HELP)?;
    let linker = linker().ok_or(LINKER_HELP)?;
    let target = match required("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let mut cargo = command(&compiler);
    cargo
        .current_dir(package)
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            target,
            "--target-dir",
        ])
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker)?);
    let status = cargo
        .status()
        .map_err(|error| format!("cannot run cargo for the kernel programs: {error}"))?;
    if !status.success() {
        return Err(format!("building the kernel programs failed: {status}"));
    }
    Ok(target_dir.join(target).join("release/ersatz-ebpf"))
}

/// A cargo that is not led astray by what the outer one has set.
fn command(compiler: &Compiler) -> Command {
    let mut command = match compiler {
        Compiler::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]);
            command
        }
        Compiler::Debian => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
    };
    for (name, _) in env::vars_os() {
        if misleading(&name) {
            command.env_remove(name);
        }
    }
    if matches!(compiler, Compiler::Debian) {
        command
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

/// Whether a variable is the outer build's own business.
fn misleading(name: &OsString) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    matches!(
        name,
        "RUSTC" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "RUSTC_LINKER"
    ) || matches!(
        name,
        "RUSTFLAGS" | "CARGO_ENCODED_RUSTFLAGS" | "RUSTDOC" | "RUSTUP_TOOLCHAIN"
    ) || matches!(
        name,
        "TARGET" | "HOST" | "OUT_DIR" | "PROFILE" | "OPT_LEVEL" | "DEBUG" | "CARGO_MAKEFLAGS"
    ) || name.starts_with("CARGO_CFG_")
        || name.starts_with("CARGO_FEATURE_")
        || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_BUILD_")
        || name.starts_with("CARGO_TARGET_")
        || name.starts_with("CARGO_PROFILE_")
        || name.starts_with("CARGO_MANIFEST_")
}

/// Flags, separated as cargo wants them; `aya-ebpf` needs the architecture by name.
fn rustflags(linker: &Path) -> Result<String, String> {
    let arch = required("CARGO_CFG_TARGET_ARCH")?;
    Ok([
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ]
    .join("\x1f"))
}

fn compiler() -> Option<Compiler> {
    if nightly() {
        Some(Compiler::Nightly)
    } else if debian() {
        Some(Compiler::Debian)
    } else {
        None
    }
}

/// Whether rustup has a nightly that can compile `core`.
fn nightly() -> bool {
    stdout(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))
        .is_some_and(|sysroot| {
            Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
        })
}

/// Whether Debian's compiler has a compiled `core` for BPF.
fn debian() -> bool {
    stdout(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"])).is_some_and(|sysroot| {
        Path::new(&sysroot)
            .join("lib/rustlib/bpfel-unknown-none/lib")
            .is_dir()
    })
}

/// Finds the linker on the path, or where cargo installs.
fn linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let installed = [cargo_home, home]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(installed)
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.is_file())
}

fn stdout(command: &mut Command) -> Option<String> {
    let output = command
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn required(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
