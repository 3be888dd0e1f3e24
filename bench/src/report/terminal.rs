//! The table for people at a terminal.

use std::fmt::Write as _;

use super::{COLUMNS, Report, number};

/// Renders the table with a closing line on the goals.
pub(super) fn render(report: &Report) -> String {
    let columns: Vec<_> = COLUMNS
        .into_iter()
        .filter(|kind| report.subjects.contains(kind))
        .collect();
    let mut lines = vec![heading(&columns)];
    let mut last = "";
    for row in &report.rows {
        let title = if row.title == last { "" } else { &row.title };
        last = &row.title;
        let mut line = format!("{title:<40} {:<16}", row.label);
        for kind in &columns {
            let value = row
                .values
                .get(kind)
                .map_or_else(|| "·".to_owned(), |&value| number(value));
            let _ = write!(line, " {value:>10}");
        }
        let verdict = row.verdict();
        let _ = write!(
            line,
            "  {:>14}  {:<8} {}",
            row.ratio_text(),
            row.goal_text(),
            coloured(verdict)
        );
        lines.push(line.trim_end().to_owned());
    }
    lines.push(closing(report));
    lines.join("\n")
}

fn heading(columns: &[crate::subject::Kind]) -> String {
    let mut line = format!("{:<40} {:<16}", "", "");
    for kind in columns {
        let _ = write!(line, " {:>10}", kind.name());
    }
    let _ = write!(line, "  {:>14}  {:<8}", "ersatz/Envoy", "goal");
    format!("\u{1b}[1m{}\u{1b}[0m", line.trim_end())
}

fn coloured(verdict: &str) -> String {
    match verdict {
        "PASS" => format!("\u{1b}[32m{verdict}\u{1b}[0m"),
        "MISS" => format!("\u{1b}[31m{verdict}\u{1b}[0m"),
        _ => verdict.to_owned(),
    }
}

fn closing(report: &Report) -> String {
    let goals = report.rows.iter().filter(|row| row.goal.is_some());
    let (mut kept, mut missed, mut open) = (0, 0, 0);
    for row in goals {
        match row.kept {
            Some(true) => kept += 1,
            Some(false) => missed += 1,
            None => open += 1,
        }
    }
    let mut text = format!(
        "\ngoals: {kept} kept, {missed} missed, {open} not measured; {} of {} samples disturbed by other work",
        report.disturbed, report.samples
    );
    for void in &report.voids {
        let _ = write!(text, "\nVOID: {void}");
    }
    text
}
