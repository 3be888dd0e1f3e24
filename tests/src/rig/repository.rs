//! A repository for the world's git server.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};

/// Makes `repositories/acme.git` with that many bytes of noise in it, which
/// nothing can compress.
pub fn repository(directory: &Path, bytes: usize) -> Result<()> {
    let (seed, served) = (
        directory.join("seed"),
        directory.join("repositories/acme.git"),
    );
    let (seed_text, served) = (seed.to_string_lossy(), served.to_string_lossy());
    git(&["init", "--quiet", &seed_text])?;
    let mut noise = vec![0; bytes];
    for block in noise.chunks_mut(256) {
        getrandom::fill(block)?;
    }
    fs::write(seed.join("noise"), noise)?;
    git(&["-C", &seed_text, "add", "noise"])?;
    git(&["-C", &seed_text, "commit", "--quiet", "-m", "noise"])?;
    git(&["clone", "--quiet", "--bare", &seed_text, &served])?;
    git(&["-C", &served, "config", "http.receivepack", "true"])
}

fn git(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=seed", "-c", "user.email=seed@test"]);
    command.args(["-c", "init.defaultBranch=main"]);
    let output = command.args(arguments).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
