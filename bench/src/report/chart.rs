//! The chart: each cost as a bar against Envoy's, with the goals marked.

use std::fmt::Write as _;

use super::{Report, Row, number};
use crate::{
    goal::{Against, Bound},
    plan::Unit,
    sample::Metric,
    subject::Kind,
};

const BARS: [(Kind, &str); 5] = [
    (Kind::Ersatz, "#0b7a75"),
    (Kind::Bare, "#8fd0c9"),
    (Kind::Relay, "#d5dbe1"),
    (Kind::Envoy, "#7b61c4"),
    (Kind::Mitmproxy, "#e4a14b"),
];

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 330.0;
/// From zero to [`MOST`] times Envoy.
const PLOT: f64 = 620.0;
const MOST: f64 = 2.0;
const BAR: f64 = 12.0;
const GAP: f64 = 22.0;
const TOP: f64 = 120.0;

/// Renders an SVG document.
pub(super) fn render(report: &Report) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| charted(row)).collect();
    let mut body = String::new();
    let mut y = TOP;
    for row in &rows {
        y = group(&mut body, row, y);
    }
    let height = y + 40.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"Inter, 'Helvetica Neue', Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"30\" y=\"42\" font-size=\"22\" font-weight=\"600\" fill=\"#17212b\">What a request costs, against Envoy</text>\n\
         <text x=\"30\" y=\"64\" fill=\"#5b6773\">proxy CPU or memory per unit of work, Envoy in the same run = 1; shorter is better; \
         the red mark is the goal for ersatz</text>\n"
    );
    legend(&mut text);
    axis(&mut text, height);
    text += &body;
    text += "</svg>\n";
    text
}

fn charted(row: &Row) -> bool {
    let cost = matches!(row.metric, Metric::Cpu | Metric::Held);
    let compared = row.values.contains_key(&Kind::Envoy) && row.unit != Unit::Handshake;
    cost && compared
}

fn legend(text: &mut String) {
    let mut x = 30.0;
    for (kind, colour) in BARS {
        let name = kind.name();
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"82\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"92\" fill=\"#17212b\">{name}</text>",
            x + 18.0
        );
        x += 120.0;
    }
}

fn axis(text: &mut String, height: f64) {
    for step in 0..=4_u8 {
        let tick = f64::from(step) / 2.0;
        let x = LEFT + tick / MOST * PLOT;
        let colour = if step == 2 { "#b9a9e4" } else { "#e8ecef" };
        let _ = writeln!(
            text,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\" stroke=\"{colour}\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#5b6773\">{tick:.1}</text>",
            TOP - 8.0,
            height - 34.0,
            height - 16.0
        );
    }
}

/// One figure: its name, its bars, its goal. Returns where the next begins.
fn group(text: &mut String, row: &Row, top: f64) -> f64 {
    let Some(&envoy) = row.values.get(&Kind::Envoy).filter(|&&value| value > 0.0) else {
        return top;
    };
    let bars: Vec<_> = BARS
        .iter()
        .filter_map(|&(kind, colour)| Some((colour, *row.values.get(&kind)?)))
        .collect();
    let height = (BAR + 2.0) * bars.iter().map(|_| 1.0).sum::<f64>();
    let _ = writeln!(
        text,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" font-weight=\"600\" fill=\"#17212b\">{}</text>\
         <text x=\"{x}\" y=\"{below}\" text-anchor=\"end\" fill=\"#5b6773\">{}</text>",
        escaped(&row.title),
        escaped(row.label),
        x = LEFT - 14.0,
        y = top + height / 2.0 - 2.0,
        below = top + height / 2.0 + 13.0,
    );
    let mut y = top;
    let mut labels = String::new();
    for (colour, value) in bars {
        bar(text, &mut labels, y, colour, value, value / envoy);
        y += BAR + 2.0;
    }
    goal(text, row, top, height);
    text.push_str(&labels);
    top + height + GAP
}

fn bar(text: &mut String, labels: &mut String, y: f64, colour: &str, value: f64, ratio: f64) {
    let width = ratio.clamp(0.002, MOST) / MOST * PLOT;
    let beyond = if ratio > MOST {
        format!(" ▸ {ratio:.0} ×")
    } else {
        String::new()
    };
    let _ = writeln!(
        text,
        "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/>"
    );
    let _ = writeln!(
        labels,
        "<text x=\"{x:.1}\" y=\"{base:.1}\" font-size=\"11\" fill=\"#17212b\" \
         paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"3\">{}{beyond}</text>",
        number(value),
        x = LEFT + width + 6.0,
        base = y + BAR - 2.0,
    );
}

fn goal(text: &mut String, row: &Row, top: f64, height: f64) {
    let Some(goal) = row
        .goal
        .filter(|goal| goal.against == Against::Subject(Kind::Envoy))
    else {
        return;
    };
    let Bound::AtMost(most) = goal.bound else {
        return;
    };
    let x = LEFT + most / MOST * PLOT;
    let _ = writeln!(
        text,
        "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#d6336c\" stroke-width=\"2\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#d6336c\">≤ {most:.2}</text>",
        top - 3.0,
        top + height,
        top - 5.0
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
