//! git, unmodified, clones and pushes with a stub as its password.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ersatz_tests::rig::{Node, text};

/// Bytes of noise in the repository: nothing that could be compressed.
const SIZE: usize = 50_000_000;

/// A bare repository with 50 MB in it, served as `acme.git`.
fn repository(directory: &Path) -> Result<()> {
    let served = directory.join("repositories/acme.git");
    let work = directory.join("seed");
    let git = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@test",
            "-c",
            "init.defaultBranch=main",
        ]);
        let output = command.args(arguments).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let (served, seed) = (served.to_string_lossy(), work.to_string_lossy());
    git(&["init", "--quiet", &seed])?;
    let mut noise = vec![0; SIZE];
    for block in noise.chunks_mut(256) {
        getrandom::fill(block).expect("the kernel has randomness");
    }
    fs::write(work.join("noise"), noise)?;
    git(&["-C", &seed, "add", "noise"])?;
    git(&["-C", &seed, "commit", "--quiet", "-m", "noise"])?;
    git(&["clone", "--quiet", "--bare", &seed, &served])?;
    git(&["-C", &served, "config", "http.receivepack", "true"])
}

#[test]
fn clones_and_pushes_50_mb_with_a_stub_for_a_password() -> Result<()> {
    let node = Node::new()?;
    repository(node.directory())?;
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
    let run = ersatz_tests::rig::Running::start(run)?;
    let head = run.finish(std::time::Duration::from_mins(5))?.success()?;

    let mut show = Command::new("git");
    show.arg("-C")
        .arg(node.directory().join("repositories/acme.git"));
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
