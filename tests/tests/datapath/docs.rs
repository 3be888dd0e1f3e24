//! What the documents tell people to type works.
//!
//! A comment before a fenced block says what a test does with it:
//! `<!-- file: NAME -->` writes it down, `<!-- run -->` runs it as a shell
//! script among the files, `<!-- tested: WHERE -->` names the test that does.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use ersatz_tests::rig::tool;

const DOCUMENTS: [&str; 3] = ["README.md", "SPECIFICATION.md", "LIMITS.md"];

/// A fenced block and the comment that stands before it.
struct Block {
    language: String,
    comment: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    let mut comment = String::new();
    while let Some(line) = lines.next() {
        if let Some(inner) = line
            .strip_prefix("<!--")
            .and_then(|line| line.strip_suffix("-->"))
        {
            inner.trim().clone_into(&mut comment);
        } else if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines
                .by_ref()
                .take_while(|line| !line.starts_with("```"))
                .collect();
            let text = text.join("\n") + "\n";
            blocks.push(Block {
                language: language.into(),
                comment: std::mem::take(&mut comment),
                text,
            });
        } else if !line.is_empty() {
            comment.clear();
        }
    }
    blocks
}

#[test]
fn every_command_of_the_documents_works() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).with_context(|| document.to_owned())?;
        let directory = tempfile::tempdir()?;
        for block in blocks(&text) {
            use_block(&block, directory.path())
                .with_context(|| format!("{document}:\n{}", block.text))?;
        }
    }
    Ok(())
}

fn use_block(block: &Block, directory: &Path) -> Result<()> {
    if let Some(name) = block.comment.strip_prefix("file: ") {
        return Ok(fs::write(directory.join(name), &block.text)?);
    }
    if block.comment != "run" {
        let known = block.language != "sh" || block.comment.starts_with("tested: ");
        ensure!(known, "commands that no test runs");
        return Ok(());
    }
    let ersatz = tool("ersatz");
    let programs = ersatz
        .parent()
        .context("the programs are in a directory")?
        .display();
    let path = format!("{programs}:/usr/local/bin:/usr/bin:/bin");
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", &block.text])
        .current_dir(directory)
        .env("PATH", path);
    let output = shell.output()?;
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{}\n{said}\n{failed}",
        output.status
    );
    Ok(())
}

#[test]
fn the_demonstration_shows_what_it_says() -> Result<()> {
    let output = Command::new(tool("ersatz-demo")).output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{shown}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(shown.contains("/proc: not found"), "{shown}");
    Ok(())
}
