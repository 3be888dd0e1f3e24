//! The run: every scenario is put to every subject in turn, round after round,
//! so that whatever disturbs the machine disturbs all alike.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    HOST,
    job::{Job, Outcome, Work},
    lab::{Lab, process::Core},
    meter,
    plan::{Effort, Scenario, Unit},
    sample::Sample,
    subject::{Kind, Programs, Subject},
};

/// All samples, by scenario and subject.
#[derive(Default)]
pub(crate) struct Samples(BTreeMap<(String, Kind), Vec<Sample>>);

impl Samples {
    pub(crate) fn of(&self, scenario: &str, kind: Kind) -> &[Sample] {
        self.0
            .get(&(scenario.to_owned(), kind))
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Sample> {
        self.0.values().flatten()
    }
}

/// A run in progress.
pub(crate) struct Run<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) programs: &'a Programs,
    pub(crate) effort: Effort,
    pub(crate) samples: Samples,
    /// What went wrong: a run with an entry is void.
    pub(crate) voids: Vec<String>,
    subjects: Vec<Subject>,
    /// Makes names that no subject has seen.
    names: usize,
}

impl<'a> Run<'a> {
    /// Starts the subjects.
    pub(crate) fn start(
        lab: &'a Lab,
        programs: &'a Programs,
        effort: Effort,
        kinds: &[Kind],
    ) -> Result<Self> {
        let mut subjects = Vec::new();
        for &kind in kinds {
            eprintln!("starting {}", kind.name());
            subjects.push(Subject::start(kind, lab, programs)?);
        }
        let samples = Samples::default();
        Ok(Self {
            lab,
            programs,
            effort,
            samples,
            voids: Vec::new(),
            subjects,
            names: 0,
        })
    }

    /// Puts one scenario to all subjects that take part.
    pub(crate) fn scenario(&mut self, scenario: &Scenario) -> Result<()> {
        let mut subjects = std::mem::take(&mut self.subjects);
        let ersatz = subjects.iter().find(|subject| subject.kind == Kind::Ersatz);
        if let Some(ersatz) = ersatz.filter(|_| scenario.takes(Kind::Rules)) {
            let rules = ersatz.rules(self.lab, self.programs)?;
            subjects.push(rules);
        }
        for round in 0..self.effort.rounds {
            // Nobody always comes first, or always after the same neighbour.
            let count = subjects.len().max(1);
            subjects.rotate_left(1 % count);
            for subject in &mut subjects {
                if scenario.takes(subject.kind) && !(subject.kind.slow() && round > 0) {
                    self.turn(scenario, round, subject)?;
                }
            }
        }
        subjects.retain(|subject| subject.kind != Kind::Rules);
        self.subjects = subjects;
        Ok(())
    }

    fn turn(&mut self, scenario: &Scenario, round: usize, subject: &mut Subject) -> Result<()> {
        if scenario.fresh {
            restart(subject, self.lab, self.programs)?;
        }
        let measured = match &scenario.work {
            None => started(subject),
            Some(work) => self.measure(scenario, work, subject),
        };
        let kind = subject.kind;
        match measured {
            Ok(sample) => {
                eprintln!(
                    "  {:24} {:12} round {} {}",
                    scenario.name,
                    kind.name(),
                    round + 1,
                    brief(&sample)
                );
                self.samples
                    .0
                    .entry((scenario.name.clone(), kind))
                    .or_default()
                    .push(sample);
            }
            Err(error) => {
                let void = format!("{}, {}: {error:#}", scenario.name, kind.name());
                eprintln!("  VOID {void}");
                self.voids.push(void);
                ensure!(kind != Kind::Rules, "the sandbox with many rules is lost");
                restart(subject, self.lab, self.programs)?;
            }
        }
        Ok(())
    }

    fn measure(
        &mut self,
        scenario: &Scenario,
        work: &Work,
        subject: &mut Subject,
    ) -> Result<Sample> {
        let job = self.job(work, subject)?;
        let meter = subject.meter();
        let (before, outcome) = subject.agent()?.perform(&job, || {
            if let Some(meter) = meter {
                meter.reset_peak()?;
            }
            read(meter)
        })?;
        let after = read(meter)?;
        let held = held(scenario, subject, &outcome, before.resident_kib);
        accept(&outcome)?;
        let units = match job.work {
            Work::Bulk { bytes, .. } => count(bytes) / GIB,
            _ => count(outcome.units),
        };
        Ok(Sample {
            seconds: outcome.seconds,
            units,
            cpu_seconds: meter.map(|_| after.cpu_seconds - before.cpu_seconds),
            core_seconds: after.core_seconds - before.core_seconds,
            p50_us: outcome.p50_us,
            p99_us: outcome.p99_us,
            growth_kib: meter
                .map(meter::Meter::peak_kib)
                .transpose()?
                .map(|peak| peak - before.resident_kib),
            held_kib: held?,
        })
    }

    fn job(&mut self, work: &Work, subject: &Subject) -> Result<Job> {
        let mut work = work.clone();
        match &mut work {
            Work::Bulk { bytes, .. } if subject.kind.slow() => *bytes /= 8,
            Work::Handshakes {
                fresh: Some(tag), ..
            } => {
                self.names += 1;
                *tag = format!("fresh{}", self.names);
            }
            _ => {}
        }
        let mut job = Job {
            work,
            addr: None,
            host: HOST.to_owned(),
            ca: None,
            token: None,
            warmup_ms: self.effort.warmup_ms,
            duration_ms: self.effort.duration_ms,
        };
        subject.address(&mut job, self.lab)?;
        Ok(job)
    }
}

/// For connections that are held: what each of them costs, once all is quiet.
fn held(
    scenario: &Scenario,
    subject: &mut Subject,
    outcome: &Outcome,
    before_kib: f64,
) -> Result<Option<f64>> {
    if scenario.unit != Unit::Held {
        return Ok(None);
    }
    thread::sleep(QUIET);
    let resident = read(subject.meter())?.resident_kib;
    subject.agent()?.release()?;
    ensure!(outcome.units > 0, "no connection was held");
    Ok(Some((resident - before_kib) / count(outcome.units)))
}

fn accept(outcome: &Outcome) -> Result<()> {
    ensure!(
        outcome.errors == 0,
        "{} errors, the first: {}",
        outcome.errors,
        outcome.error.as_deref().unwrap_or("unknown")
    );
    ensure!(outcome.units > 0, "nothing was done");
    Ok(())
}

fn read(meter: Option<meter::Meter>) -> Result<meter::Reading> {
    match meter {
        Some(meter) => meter.read(),
        None => Ok(meter::Reading {
            core_seconds: meter::busy(Core::Proxy)?,
            ..Default::default()
        }),
    }
}

fn started(subject: &Subject) -> Result<Sample> {
    let meter = subject.meter().context("nothing was started")?;
    Ok(Sample {
        units: 1.0,
        held_kib: Some(meter.pss_kib()?),
        ..Sample::default()
    })
}

/// A subject without a past.
fn restart(subject: &mut Subject, lab: &Lab, programs: &Programs) -> Result<()> {
    let kind = subject.kind;
    subject.stop()?;
    *subject = Subject::start(kind, lab, programs)?;
    Ok(())
}

fn brief(sample: &Sample) -> String {
    match (sample.held_kib, sample.cpu_seconds) {
        (Some(held), _) => format!("{held:10.1} KiB"),
        (None, Some(cpu)) => format!(
            "{:10.1}/s {:9.2} µs CPU each, p50 {:.0} µs, p99 {:.0} µs",
            sample.units / sample.seconds,
            cpu * 1e6 / sample.units,
            sample.p50_us,
            sample.p99_us
        ),
        (None, None) => format!("{:10.1}/s", sample.units / sample.seconds),
    }
}

/// Counts here stay far below what a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
const fn count(value: u64) -> f64 {
    value as f64
}

const GIB: f64 = 1_073_741_824.0;

/// For what a proxy frees only a moment after an answer.
const QUIET: Duration = Duration::from_secs(1);
