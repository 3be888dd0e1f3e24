//! Real agents, unmodified, each do one prompt in a sandbox.
//!
//! The provider is fake and accepts only the real key; the agent has a stub.

use std::{fs, os::unix::fs::chown, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use ersatz_tests::{
    rig::{Finished, Node, Running, Settings, text},
    world::provider::ANSWER,
};

/// Agents retry for minutes when something is amiss; a prompt takes seconds.
const PATIENCE: Duration = Duration::from_mins(3);
/// The user that agents run as: they refuse to skip permissions as root.
const USER: (&str, u32) = ("nobody", 65_534);

/// An installed agent's program.
fn agent(name: &str) -> Result<PathBuf> {
    let directory = std::env::var_os("ERSATZ_TEST_AGENTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/agents")),
        PathBuf::from,
    );
    let program = directory.join("node_modules/.bin").join(name);
    ensure!(
        program.exists(),
        "{name} is not installed; run: cargo xtask setup --agents"
    );
    Ok(program)
}

/// Runs one prompt and looks at what the provider, the agent and the audit log saw.
fn prompts(name: &str, arguments: &str, host: &str, credential: &str) -> Result<()> {
    let settings = Settings {
        credentials: "anthropic, openai".into(),
        ..Settings::default()
    };
    let node = Node::with(settings)?;
    let daemon = node.daemon()?;
    let home = node.directory().join("home");
    fs::create_dir(&home)?;
    chown(&home, Some(USER.1), Some(USER.1))?;
    let script = format!(
        "cd {home} && export HOME={home} CODEX_API_KEY=$OPENAI_API_KEY && env && exec {} {arguments} </dev/null",
        agent(name)?.display(),
        home = home.display(),
    );
    let options = ["--policy", "agents", "--as", USER.0];
    let run = node.ersatz_run(&options, &["sh", "-c", &script]);
    let Finished {
        status,
        stdout,
        stderr,
    } = Running::start(run)?.finish(PATIENCE)?;
    ensure!(
        status.success() && stdout.contains(ANSWER),
        "{name}: {status}\n{stdout}\n{stderr}"
    );
    for output in [&stdout, &stderr] {
        ensure!(
            node.secrets().find_in(output.as_bytes()).is_none(),
            "{name}: a secret in the sandbox"
        );
    }
    let requests = node
        .ledger()?
        .with(&[("kind", "request"), ("sni", host), ("method", "POST")]);
    let real = requests.iter().find(|request| {
        node.secrets()
            .find_in(text(request, "headers").as_bytes())
            .is_some()
    });
    real.with_context(|| format!("{name}: the provider saw no real key: {requests}"))?;
    let record = node.audit_with(|record| {
        text(record, "authority") == host && text(record, "credentials").contains(credential)
    })?;
    ensure!(text(&record, "verdict") == "allow", "{record}");
    let label = format!("credential=\"{credential}\"");
    ensure!(
        daemon.metric("ersatz_swaps_total", &[&label])? >= 1,
        "{name}: no swap was counted"
    );
    Ok(())
}

#[test]
fn claude_code_does_a_prompt() -> Result<()> {
    prompts(
        "claude",
        r#"-p "say hello" --dangerously-skip-permissions"#,
        "api.anthropic.com",
        "anthropic",
    )
}

#[test]
fn codex_does_a_prompt() -> Result<()> {
    let arguments =
        r#"exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox "say hello""#;
    prompts("codex", arguments, "api.openai.com", "openai")
}

#[test]
fn opencode_does_a_prompt() -> Result<()> {
    let arguments = r#"run -m anthropic/claude-sonnet-4-5 "say hello""#;
    prompts("opencode", arguments, "api.anthropic.com", "anthropic")
}
