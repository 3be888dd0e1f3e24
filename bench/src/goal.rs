//! The promised ratios, and whether they are kept.

use serde::Serialize;

use crate::{plan::Unit, sample::Metric, subject::Kind};

/// A promise about ersatz's figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) bound: Bound,
    pub(crate) against: Against,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What the figure is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Against {
    /// Another subject in the same scenario.
    Subject(Kind),
    /// ersatz itself in another scenario.
    Scenario(&'static str),
    /// Nothing: the figure itself is bounded.
    Itself,
}

impl Goal {
    /// The promise about one figure of a scenario, if there is one.
    pub(crate) fn of(scenario: &str, unit: Unit, metric: Metric) -> Option<Self> {
        let envoy = |bound| {
            Some(Self {
                bound,
                against: Against::Subject(Kind::Envoy),
            })
        };
        match (unit, metric) {
            _ if scenario.starts_with("rules") => (metric == Metric::Cpu).then_some(Self {
                bound: Bound::AtMost(1.1),
                against: Against::Subject(Kind::Ersatz),
            }),
            (Unit::Request, Metric::Cpu) if scenario == "h2" => envoy(Bound::AtMost(0.60)),
            (Unit::Request, Metric::Cpu) => envoy(Bound::AtMost(0.50)),
            // With one connection the rate is a round trip between two cores that sleep.
            (Unit::Request, Metric::Rate) if matches!(scenario, "h1-16" | "h1-64") => {
                envoy(Bound::AtLeast(1.8))
            }
            (Unit::Connection, Metric::Cpu) => envoy(Bound::AtMost(0.95)),
            (Unit::Handshake, Metric::P50) if scenario == "handshake-new" => Some(Self {
                bound: Bound::AtMost(1.3),
                against: Against::Scenario("handshake-warm"),
            }),
            (Unit::Gibibyte, Metric::Cpu) => envoy(Bound::AtMost(1.15)),
            (Unit::Gibibyte, Metric::Growth) => Some(Self {
                bound: Bound::AtMost(4096.0),
                against: Against::Itself,
            }),
            (Unit::Event, Metric::Cpu) => envoy(Bound::AtMost(0.9)),
            (Unit::Event, Metric::P99) => envoy(Bound::AtMost(1.0)),
            (Unit::Held, Metric::Held) => envoy(Bound::AtMost(1.2)),
            _ => None,
        }
    }

    pub(crate) fn kept(&self, value: f64) -> bool {
        match self.bound {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        }
    }
}

impl Bound {
    pub(crate) const fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) => value,
        }
    }

    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::AtMost(_) => "≤",
            Self::AtLeast(_) => "≥",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_bound_the_right_side() {
        let cpu = Goal::of("h1-16", Unit::Request, Metric::Cpu).expect("a goal");
        assert!(cpu.kept(0.5) && !cpu.kept(0.51));
        let rate = Goal::of("h1-16", Unit::Request, Metric::Rate).expect("a goal");
        assert!(rate.kept(1.8) && !rate.kept(1.79));
        let rules = Goal::of("rules-request", Unit::Request, Metric::Cpu).expect("a goal");
        assert_eq!(rules.against, Against::Subject(Kind::Ersatz));
        assert_eq!(Goal::of("h1-1", Unit::Request, Metric::Rate), None);
    }
}
