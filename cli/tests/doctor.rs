//! `ersatz doctor` on a machine that can run sandboxes, with root and without.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Output},
};

use serde_json::Value;

/// The number of a user who may do nothing.
const NOBODY: u32 = 65534;

fn doctor(change: impl FnOnce(&mut Command)) -> (Output, Value) {
    // Where the build is, others may have no access: what runs as nobody runs from a place of its own.
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("ersatz");
    std::fs::copy(env!("CARGO_BIN_EXE_ersatz"), &program).expect("copied");
    let mut command = Command::new(program);
    change(command.args(["doctor", "--output", "json"]));
    let output = command.output().expect("it starts");
    let report = serde_json::from_slice(&output.stdout).expect("one JSON document");
    (output, report)
}

fn status<'a>(report: &'a Value, name: &str) -> Option<&'a str> {
    let checks = report["checks"].as_array()?;
    checks.iter().find(|check| check["name"] == name)?["status"].as_str()
}

#[test]
fn finds_all_that_is_needed_with_root() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this needs root: sudo -E cargo xtask test datapath"
    );
    let (output, report) = doctor(|_| {});
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["ready"], true, "{report:#}");
    assert_eq!(status(&report, "steering"), Some("good"), "{report:#}");
}

#[test]
fn says_what_is_missing_without_root_and_what_to_do() {
    let (output, report) = doctor(|command| {
        command.uid(NOBODY).gid(NOBODY);
    });
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["ready"], false, "{report:#}");
    assert_eq!(status(&report, "rights"), Some("missing"), "{report:#}");
    assert_eq!(status(&report, "kernel"), Some("good"), "{report:#}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("run it with sudo"), "{text}");
}
