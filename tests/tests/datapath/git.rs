//! git, unmodified, clones and pushes with a stub as its password.

use std::{process::Command, time::Duration};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ersatz_tests::rig::{Node, Running, repository, text};

/// Bytes of noise in the repository: nothing that could be compressed.
const SIZE: usize = 50_000_000;

#[test]
fn clones_and_pushes_50_mb_with_a_stub_for_a_password() -> Result<()> {
    let node = Node::new()?;
    repository(&node.world_directory(), SIZE)?;
    let daemon = node.daemon()?;
    let work = node.directory().join("work");
    let script = format!(
        r"set -e
        git config --global user.name agent; git config --global user.email agent@test
        git clone --quiet https://agent:$GIT_PASSWORD@git.test/acme.git {work}
        cd {work}
        head -c {SIZE} /dev/urandom > more
        git add more; git commit --quiet -m more
        git push --quiet origin HEAD:refs/heads/pushed
        git rev-parse HEAD",
        work = work.display()
    );
    let run = node.ersatz_run(
        &["--policy", "agents"],
        &["env", "HOME=/tmp", "sh", "-c", &script],
    );
    let run = Running::start(run)?;
    let head = run.finish(Duration::from_mins(5))?.success()?;

    let mut show = Command::new("git");
    show.arg("-C")
        .arg(node.world_directory().join("repositories/acme.git"));
    let pushed = show
        .args(["-c", "safe.directory=*", "rev-parse", "pushed"])
        .output()?;
    assert_eq!(
        String::from_utf8_lossy(&pushed.stdout),
        head,
        "the server has what was pushed"
    );

    let basic = BASE64_STANDARD.encode(format!("agent:{}", node.secrets().git));
    let requests = node
        .ledger()?
        .with(&[("kind", "request"), ("sni", "git.test")]);
    let authorized = requests
        .iter()
        .filter(|request| text(request, "headers").contains(&basic));
    assert!(authorized.count() >= 4, "{requests}");
    let record = node.audit_with(|record| text(record, "path").ends_with("/git-receive-pack"))?;
    assert!(
        text(&record, "credentials").contains(r#""name":"git""#),
        "{record}"
    );
    let swaps = daemon.metric("ersatz_swaps_total", &[r#"credential="git""#])?;
    assert!(swaps >= 4, "{swaps}");
    Ok(())
}
