//! One measurement, and the figures that are read from it.

use serde::Serialize;

use crate::plan::Unit;

/// What one subject did in one window of one round.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// Units of work: requests, connections, events, or GiB.
    pub(crate) units: f64,
    /// CPU of the proxy.
    pub(crate) cpu_seconds: Option<f64>,
    /// Time that the proxy's core was not idle.
    pub(crate) core_seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Peak of resident memory above what was there before.
    pub(crate) growth_kib: Option<f64>,
    /// Memory that the held thing costs: of one connection, or of the start.
    pub(crate) held_kib: Option<f64>,
}

/// A figure of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU per unit of work.
    Cpu,
    /// Busy time of the proxy's core per unit: with soft interrupts, and with strangers.
    Core,
    Rate,
    P50,
    P99,
    Growth,
    Held,
}

impl Sample {
    pub(crate) fn figure(&self, metric: Metric, unit: Unit) -> Option<f64> {
        let scale = if unit == Unit::Gibibyte { 1.0 } else { 1e6 };
        let worked = self.units > 0.0;
        match metric {
            Metric::Cpu => self
                .cpu_seconds
                .filter(|_| worked)
                .map(|cpu| cpu * scale / self.units),
            Metric::Core => worked.then(|| self.core_seconds * scale / self.units),
            Metric::Rate => (self.seconds > 0.0).then(|| self.units / self.seconds),
            Metric::P50 => Some(self.p50_us),
            Metric::P99 => Some(self.p99_us),
            Metric::Growth => self.growth_kib,
            Metric::Held => self.held_kib,
        }
    }

    /// How much of the window the proxy's core did something else.
    pub(crate) fn foreign(&self) -> f64 {
        let own = self.cpu_seconds.unwrap_or(0.0);
        ((self.core_seconds - own) / self.seconds.max(0.001)).clamp(0.0, 1.0)
    }
}

impl Metric {
    /// The figures that are shown for a kind of work.
    pub(crate) const fn of(unit: Unit) -> &'static [Self] {
        match unit {
            Unit::Request => &[Self::Cpu, Self::Core, Self::Rate, Self::P50, Self::P99],
            Unit::Connection => &[Self::Cpu, Self::Rate, Self::P50],
            Unit::Handshake | Unit::Event => &[Self::Cpu, Self::P50, Self::P99],
            Unit::Gibibyte => &[Self::Cpu, Self::Rate, Self::Growth],
            Unit::Held | Unit::Start => &[Self::Held],
        }
    }

    /// How the figure is called, with its unit.
    pub(crate) const fn label(self, unit: Unit) -> &'static str {
        match (self, unit) {
            (Self::Cpu, Unit::Gibibyte) => "CPU s/GiB",
            (Self::Core, Unit::Gibibyte) => "core busy s/GiB",
            (Self::Cpu, _) => "CPU µs each",
            (Self::Core, _) => "core busy µs each",
            (Self::Rate, Unit::Gibibyte) => "GiB/s",
            (Self::Rate, _) => "per second",
            (Self::P50, _) => "p50 µs",
            (Self::P99, _) => "p99 µs",
            (Self::Growth, _) => "peak growth KiB",
            (Self::Held, Unit::Start) => "PSS KiB",
            (Self::Held, _) => "KiB each",
        }
    }
}

/// The middle value; of an even number the mean of the two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*upper, *lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn cpu_is_per_unit_of_work() {
        let sample = Sample {
            units: 1000.0,
            cpu_seconds: Some(0.02),
            ..Sample::default()
        };
        assert_eq!(sample.figure(Metric::Cpu, Unit::Request), Some(20.0));
        assert_eq!(sample.figure(Metric::Cpu, Unit::Gibibyte), Some(0.000_02));
        assert_eq!(Sample::default().figure(Metric::Cpu, Unit::Request), None);
    }
}
