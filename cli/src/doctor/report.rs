//! The findings for people and for programs.

use std::io::{IsTerminal, Write, stdout};

use super::{Finding, Status};

/// Prints a line for each finding, and what to do below those that are not good.
pub(super) fn text(findings: &[Finding]) {
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A reader that went away wants no more.
    drop(stdout().write_all(render(findings, colours).as_bytes()));
}

/// Prints one document.
pub(super) fn json(findings: &[Finding]) -> anyhow::Result<()> {
    let ready = findings
        .iter()
        .all(|finding| finding.status != Status::Missing);
    let document = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": ready,
        "checks": findings,
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

fn render(findings: &[Finding], colours: bool) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = mark(finding.status, colours);
        lines.push(format!("{mark} {:<22} {}", finding.name, finding.found));
        lines.extend(
            finding
                .remedy
                .map(|remedy| format!("{:>30}{remedy}", "-> ")),
        );
    }
    let missing = findings
        .iter()
        .filter(|finding| finding.status == Status::Missing)
        .count();
    lines.push(match missing {
        0 => "This machine can run sandboxes.".to_owned(),
        1 => "One thing is missing: sandboxes cannot be made.".to_owned(),
        more => format!("{more} things are missing: sandboxes cannot be made."),
    });
    lines.push(String::new());
    lines.join("\n")
}

fn mark(status: Status, colours: bool) -> String {
    let (word, colour) = match status {
        Status::Good => ("good   ", 32),
        Status::Warn => ("warn   ", 33),
        Status::Missing => ("missing", 31),
    };
    if colours {
        format!("\u{1b}[{colour}m{word}\u{1b}[0m")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_to_do() {
        let findings = [
            Finding::good("kernel", "6.18"),
            Finding::missing("rights", "user 1000", "use sudo"),
        ];
        let text = render(&findings, false);
        assert!(text.contains("good    kernel"), "{text}");
        assert!(text.contains("-> use sudo"), "{text}");
        assert!(
            text.ends_with("One thing is missing: sandboxes cannot be made.\n"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }
}
