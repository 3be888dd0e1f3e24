//! `ersatz run -f` on a machine where no daemon serves: it brings its own.

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use ersatz_tests::rig::{Finished, Node, Running, text, wait_until};

const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

fn run(node: &Node, command: &str) -> Result<Finished> {
    let config = |file: &str| {
        node.directory()
            .join("config")
            .join(file)
            .to_string_lossy()
            .into_owned()
    };
    let files = [
        config("credentials.yaml"),
        config("policy.yaml"),
        config("node.yaml"),
    ];
    let audit = node.audit_file().to_string_lossy().into_owned();
    let [credentials, policy, settings] = &files;
    let options = [
        "-f",
        credentials,
        "-f",
        policy,
        "-f",
        settings,
        "--audit",
        &audit,
    ];
    Running::start(node.ersatz_run(&options, &["sh", "-c", command]))?.finish(PATIENCE)
}

const REQUEST: &str =
    r#"curl -sS --max-time 20 -H "Authorization: Bearer $API_TOKEN" https://api.test/local"#;

#[test]
fn a_secret_reaches_the_server_and_never_the_sandbox() -> Result<()> {
    let node = Node::new()?;
    let answer = run(&node, &format!("env; {REQUEST}"))?.success()?;
    assert!(answer.contains("\"ok\":true"), "{answer}");
    assert_eq!(node.secrets().find_in(answer.as_bytes()), None);
    let requests = node.ledger()?.with(&[("kind", "request")]);
    assert!(
        requests.to_string().contains(&node.secrets().api),
        "{requests}"
    );
    let record = node.audit_with(|record| text(record, "path") == "/local")?;
    assert_eq!(text(&record, "verdict"), "allow", "{record}");
    Ok(())
}

#[test]
fn secrets_come_from_the_environment_and_from_commands() -> Result<()> {
    let node = Node::new()?;
    let file = |name: &str| node.directory().join(name).to_string_lossy().into_owned();
    let [policy, settings, helper] = ["policy.yaml", "config/node.yaml", "helper"].map(file);
    // The command is root's own, as what the daemon runs has to be.
    std::fs::write(
        &helper,
        format!("#!/bin/sh\necho {}\n", node.secrets().models),
    )?;
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o700))?;
    std::fs::write(&policy, SOURCES.replace("HELPER", &helper))?;
    let script = r#"env; cat /proc/[0-9]*/environ
        curl -sS --max-time 20 -H "Authorization: Bearer $API_TOKEN" https://api.test/
        curl -sS --max-time 20 -H "X-Api-Key: $MODELS_KEY" https://models.test/"#;
    let variables = [
        ("REAL_TOKEN", node.secrets().api.as_str()),
        ("COPY", &node.secrets().api),
    ];
    let options = ["-f", &policy, "-f", &settings];
    let run = node.ersatz_run_with(&variables, &options, &["sh", "-c", script]);
    let answer = Running::start(run)?.finish(PATIENCE)?.success()?;
    assert_eq!(answer.matches("\"ok\":true").count(), 2, "{answer}");
    assert!(!answer.contains("REAL_TOKEN="), "{answer}");
    assert_eq!(node.secrets().find_in(answer.as_bytes()), None);
    Ok(())
}

const SOURCES: &str = r#"
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {name: api}
spec:
  from: {env: {name: REAL_TOKEN}}
  stub: {env: API_TOKEN, shape: "ghp_[A-Za-z0-9]{36}"}
  use:
  - {hosts: [api.test], in: [{header: authorization}]}
---
apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {name: models}
spec:
  from: {exec: {command: ["HELPER"]}}
  stub: {env: MODELS_KEY}
  use:
  - {hosts: [models.test], in: [{header: x-api-key}]}
---
apiVersion: ersatz.dev/v1alpha1
kind: EgressPolicy
metadata: {name: agents}
spec:
  credentials: [api, models]
  allow: []
"#;

#[test]
fn the_commands_exit_code_is_its_own() -> Result<()> {
    let node = Node::new()?;
    for code in [0, 1, 42, 127] {
        let finished = run(&node, &format!("exit {code}"))?;
        assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    }
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let node = Node::new()?;
    let before = node.inventory()?;
    run(&node, REQUEST)?.success()?;
    assert_same(&node, &before)
}

#[test]
fn a_killed_run_is_cleared_away_by_the_next() -> Result<()> {
    let node = Node::new()?;
    run(&node, "true")?.success()?;
    let before = node.inventory()?;
    let config = node.directory().join("config");
    let files = ["credentials.yaml", "policy.yaml", "node.yaml"].map(|file| config.join(file));
    let started = node.directory().join("started");
    let mut options = Vec::new();
    for file in &files {
        options.extend(["-f".to_owned(), file.to_string_lossy().into_owned()]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let script = format!("touch {}; sleep 1000", started.display());
    let victim = Running::start(node.ersatz_run(&options, &["sh", "-c", &script]))?;
    wait_until(PATIENCE, || started.exists().then_some(()))?;
    victim.signal(nix::sys::signal::Signal::SIGKILL)?;
    victim.finish(PATIENCE)?;
    run(&node, REQUEST)?.success()?;
    assert_same(&node, &before)
}

/// What ends a moment later than the command is waited for.
fn assert_same(node: &Node, before: &ersatz_tests::rig::Inventory) -> Result<()> {
    let same = wait_until(std::time::Duration::from_secs(3), || {
        let now = node.inventory().ok()?;
        before.difference(&now).is_empty().then_some(())
    });
    let left = before.difference(&node.inventory()?);
    assert!(same.is_ok(), "left behind: {left:#?}");
    Ok(())
}
