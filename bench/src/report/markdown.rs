//! The table for documents.

use std::fmt::Write as _;

use super::{COLUMNS, Report, number};

/// Renders a document of its own, with how it was measured.
pub(super) fn render(report: &Report) -> String {
    let columns: Vec<_> = COLUMNS
        .into_iter()
        .filter(|kind| report.subjects.contains(kind))
        .collect();
    let mut text = opening(report);
    text += "| Work | Figure |";
    for kind in &columns {
        let _ = write!(text, " {} |", kind.name());
    }
    text += " ersatz/Envoy | Goal | |\n|---|---|";
    text += &"--:|".repeat(columns.len() + 1);
    text += "---|---|\n";
    let mut last = "";
    for row in &report.rows {
        let title = if row.title == last { "" } else { &row.title };
        last = &row.title;
        let _ = write!(text, "| {title} | {} |", row.label);
        for kind in &columns {
            let value = row
                .values
                .get(kind)
                .map_or_else(String::new, |&value| number(value));
            let _ = write!(text, " {value} |");
        }
        let _ = writeln!(
            text,
            " {} | {} | {} |",
            row.ratio_text(),
            row.goal_text(),
            row.verdict()
        );
    }
    text
}

fn opening(report: &Report) -> String {
    let mut text = String::from("# Bench\n\n![chart](chart.svg)\n\n");
    let _ = writeln!(
        text,
        "{}, Linux {}. Proxy on one core, load and upstream on another; medians of {} rounds of {} ms, \
         the subjects by turns. CPU is user and system time of the proxy's process, soft interrupts within it \
         included. The upstream admits only the real secret: a run without a swap is void. \
         {} of {} samples were disturbed by other work on the proxy's core.\n",
        report.machine.processor,
        report.machine.kernel,
        report.effort.rounds,
        report.effort.duration_ms,
        report.disturbed,
        report.samples
    );
    for void in &report.voids {
        let _ = writeln!(text, "**VOID**: {void}\n");
    }
    text
}
