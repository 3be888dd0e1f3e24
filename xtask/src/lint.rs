//! `cargo xtask lint`: form, lints, dependencies and the size of files.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    build, process,
    setup::{self, Part},
    workspace,
};

/// No source file is longer.
const FILE_LINES: usize = 700;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Put right what can be put right without a person.
    #[arg(long)]
    fix: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Part::Build, Part::Bpf, Part::Lint])?;
    let checks = [
        ("form", format(args.fix)),
        ("sizes", sizes()),
        ("documents", documents()),
        ("dependencies", dependencies()),
        ("clippy", clippy(args.fix)),
    ];
    let mut code = ExitCode::SUCCESS;
    for (check, result) in checks {
        match result {
            Ok(()) => println!("lint: {check:<12} ok"),
            Err(error) => {
                println!("lint: {check:<12} FAILED: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn format(fix: bool) -> Result<()> {
    for manifest in ["Cargo.toml", "ebpf/Cargo.toml"] {
        let manifest = workspace::root().join(manifest);
        if !manifest.exists() {
            continue;
        }
        let mut fmt = Command::new(env!("CARGO"));
        fmt.args(["fmt", "--all", "--manifest-path"]).arg(manifest);
        if !fix {
            fmt.arg("--check");
        }
        process::run(&mut fmt).context("put it right with `cargo xtask lint --fix`")?;
    }
    Ok(())
}

fn clippy(fix: bool) -> Result<()> {
    let mut clippy = build::cargo("clippy");
    clippy.args(["--workspace", "--all-targets"]);
    if fix {
        clippy.args(["--fix", "--allow-dirty", "--allow-staged"]);
    }
    process::run(clippy.args(["--", "--deny", "warnings"]))
}

/// Licences, banned crates and sources always; advisories when the database
/// can be reached or was reached before.
fn dependencies() -> Result<()> {
    process::run(deny().args(["--offline", "check", "bans", "licenses", "sources"]))?;
    let fetched = process::run_quietly(deny().args(["fetch", "db"]));
    let mut advisories = deny();
    advisories.args(["--offline", "check", "advisories"]);
    match fetched {
        Ok(()) => process::run(&mut advisories),
        Err(_) if has_advisories() => {
            println!("lint: the advisory database cannot be reached; using the one fetched before");
            process::run(&mut advisories)
        }
        Err(_) => {
            println!(
                "lint: ADVISORIES WERE NOT CHECKED: their database cannot be reached from here; \
                 where it can: cargo deny check advisories"
            );
            Ok(())
        }
    }
}

fn deny() -> Command {
    let mut deny = Command::new(setup::cargo_deny());
    // Duplicates are warnings, for a person who looks: cargo deny check bans.
    deny.args(["--log-level", "error"]);
    deny.current_dir(workspace::root());
    deny
}

/// Whether a database was fetched before; a failed fetch leaves an empty directory.
fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let Ok(databases) = fs::read_dir(home.unwrap_or_default().join("advisory-dbs")) else {
        return false;
    };
    let mut crates = databases
        .flatten()
        .map(|database| database.path().join("crates"));
    crates.any(|crates| crates.is_dir())
}

fn sizes() -> Result<()> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let files = process::output(git.current_dir(workspace::root()))
        .context("cannot list the files with git")?;
    let mut long = Vec::new();
    for file in files.lines() {
        // A file that was removed and not committed is listed still.
        let Ok(text) = fs::read_to_string(workspace::root().join(file)) else {
            continue;
        };
        let lines = text.lines().count();
        if lines > FILE_LINES {
            long.push(format!("{file}: {lines} lines, {FILE_LINES} are the limit"));
        }
    }
    if long.is_empty() {
        return Ok(());
    }
    bail!("split these files:\n{}", long.join("\n"))
}

/// What the documents promise is kept by tests that exist.
fn documents() -> Result<()> {
    let code: String = sources()?.into_iter().map(|(_, text)| text).collect();
    let mut missing = Vec::new();
    for document in ["THREAT_MODEL.md", "LIMITS.md"] {
        let text = fs::read_to_string(workspace::root().join(document))
            .with_context(|| format!("cannot read {document}"))?;
        let named = text.split('`').skip(1).step_by(2).filter_map(test_name);
        let absent = named.filter(|test| !code.contains(&format!("fn {test}(")));
        missing.extend(absent.map(|test| format!("{document}: {test}")));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("these tests do not exist:\n{}", missing.join("\n"))
}

/// The function in `module::name_of_a_test`; other words in code quotes have fewer parts.
fn test_name(word: &str) -> Option<&str> {
    let name = word.rsplit("::").next()?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (is_name && name.matches('_').count() >= 2).then_some(name)
}

/// The Rust files of this checkout, with their names.
fn sources() -> Result<Vec<(String, String)>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let files = process::output(git.current_dir(workspace::root()))
        .context("cannot list the files with git")?;
    let read = |file: &str| {
        // A file that was removed and not committed is listed still.
        let bytes = fs::read(workspace::root().join(file)).ok()?;
        Some((
            file.to_owned(),
            String::from_utf8_lossy(&bytes).into_owned(),
        ))
    };
    Ok(files.lines().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_tests_from_other_words() {
        assert_eq!(
            test_name("dns::a_denied_name_does_not_exist"),
            Some("a_denied_name_does_not_exist")
        );
        assert_eq!(test_name("sink::tests::refuses"), None);
        assert_eq!(test_name("connect_timeout"), None);
        assert_eq!(test_name("request-too-large"), None);
    }
}
