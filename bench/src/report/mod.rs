//! The results: one table, as text, Markdown, JSON and a chart.

mod chart;
mod markdown;
mod terminal;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    goal::{Against, Bound, Goal},
    plan::{Effort, Scenario, Unit},
    run::Samples,
    sample::{Metric, median},
    subject::Kind,
};

/// The subjects that have a column, in order.
pub(crate) const COLUMNS: [Kind; 6] = [
    Kind::Direct,
    Kind::Relay,
    Kind::Bare,
    Kind::Ersatz,
    Kind::Envoy,
    Kind::Mitmproxy,
];

/// All that is reported.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) effort: Effort,
    pub(crate) subjects: Vec<Kind>,
    pub(crate) rows: Vec<Row>,
    /// The run counts for nothing when there is one.
    pub(crate) voids: Vec<String>,
    /// Samples during which the proxy's core was used by strangers for a tenth of the time.
    pub(crate) disturbed: usize,
    pub(crate) samples: usize,
}

/// Where it was measured.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
}

/// One figure, side by side.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) metric: Metric,
    pub(crate) label: &'static str,
    /// Medians over the rounds.
    pub(crate) values: BTreeMap<Kind, f64>,
    /// Largest minus smallest of ersatz's rounds, against the median.
    pub(crate) spread: Option<f64>,
    /// ersatz against Envoy, or against what the goal names.
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<Goal>,
    pub(crate) kept: Option<bool>,
}

impl Report {
    pub(crate) fn new(
        scenarios: &[Scenario],
        samples: &Samples,
        subjects: Vec<Kind>,
        voids: Vec<String>,
        effort: Effort,
    ) -> Result<Self> {
        let rows = scenarios
            .iter()
            .flat_map(|scenario| {
                let metrics = Metric::of(scenario.unit).iter();
                metrics.filter_map(|&metric| Row::new(scenario, metric, samples))
            })
            .collect();
        Ok(Self {
            machine: Machine::look()?,
            effort,
            subjects,
            rows,
            voids,
            disturbed: samples
                .all()
                .filter(|sample| sample.foreign() > 0.1)
                .count(),
            samples: samples.all().count(),
        })
    }

    /// How many goals are missed; unmeasured ones are not counted.
    pub(crate) fn missed(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| row.kept == Some(false))
            .count()
    }

    /// Writes `report.md`, `report.json` and `chart.svg`, and prints the table.
    pub(crate) fn publish(&self, out: &Path) -> Result<()> {
        fs::write(out.join("report.md"), markdown::render(self)).context("report.md")?;
        fs::write(out.join("report.json"), serde_json::to_string_pretty(self)?)?;
        fs::write(out.join("chart.svg"), chart::render(self))?;
        println!("{}", terminal::render(self));
        println!("{}", out.join("report.md").display());
        println!("{}", out.join("report.json").display());
        println!("{}", out.join("chart.svg").display());
        Ok(())
    }
}

impl Row {
    fn new(scenario: &Scenario, metric: Metric, samples: &Samples) -> Option<Self> {
        let figures = |name: &str, kind| -> Vec<f64> {
            let of = samples.of(name, kind).iter();
            of.filter_map(|sample| sample.figure(metric, scenario.unit))
                .collect()
        };
        let mut values = BTreeMap::new();
        for kind in COLUMNS.into_iter().chain([Kind::Rules]) {
            if let Some(value) = median(figures(&scenario.name, kind)) {
                values.insert(kind, value);
            }
        }
        let subject = if scenario.takes(Kind::Rules) {
            Kind::Rules
        } else {
            Kind::Ersatz
        };
        let goal = Goal::of(&scenario.name, scenario.unit, metric);
        let base = match goal.map_or(Against::Subject(Kind::Envoy), |goal| goal.against) {
            Against::Subject(kind) => values.get(&kind).copied(),
            Against::Scenario(other) => median(figures(other, Kind::Ersatz)),
            Against::Itself => Some(1.0),
        };
        let value = values.get(&subject).copied();
        let ratio = value
            .zip(base)
            .filter(|&(_, base)| base > 0.0)
            .map(|(value, base)| value / base);
        if values.is_empty() {
            return None;
        }
        Some(Self {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            unit: scenario.unit,
            metric,
            label: metric.label(scenario.unit),
            spread: spread(&figures(&scenario.name, subject)),
            kept: goal.zip(ratio).map(|(goal, ratio)| goal.kept(ratio)),
            values,
            ratio,
            goal,
        })
    }

    /// `0.29`, with what it is a ratio to when that is not Envoy.
    pub(crate) fn ratio_text(&self) -> String {
        let Some(ratio) = self.ratio else {
            return String::new();
        };
        match self.goal.map(|goal| goal.against) {
            Some(Against::Itself) => number(ratio),
            Some(Against::Scenario(_)) => format!("{ratio:.2} × known"),
            Some(Against::Subject(Kind::Ersatz)) => format!("{ratio:.2} × 2 rules"),
            _ => format!("{ratio:.2}"),
        }
    }

    pub(crate) fn goal_text(&self) -> String {
        let Some(goal) = self.goal else {
            return String::new();
        };
        let value = match goal.bound {
            Bound::AtMost(value) | Bound::AtLeast(value) if goal.against == Against::Itself => {
                number(value)
            }
            bound => format!("{:.2}", bound.value()),
        };
        format!("{} {value}", goal.bound.sign())
    }

    pub(crate) const fn verdict(&self) -> &'static str {
        match (self.goal, self.kept) {
            (_, Some(true)) => "PASS",
            (_, Some(false)) => "MISS",
            (Some(_), None) => "not measured",
            (None, None) => "",
        }
    }
}

impl Machine {
    fn look() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model)
            .to_owned();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned();
        Ok(Self { processor, kernel })
    }
}

fn spread(figures: &[f64]) -> Option<f64> {
    let middle = median(figures.to_vec()).filter(|&middle| middle > 0.0)?;
    let (least, most) = figures
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), &figure| {
            (least.min(figure), most.max(figure))
        });
    Some((most - least) / middle)
}

/// Three digits that matter, thousands apart.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 {
        thousands(value.round())
    } else if magnitude >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.123, "0.12"),
            (9.876, "9.88"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.4, "1,234"),
            (-65536.0, "-65,536"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn spread_is_relative_to_the_median() {
        assert_eq!(spread(&[9.0, 10.0, 11.0]), Some(0.2));
        assert_eq!(spread(&[]), None);
    }
}
