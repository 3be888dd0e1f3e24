//! What the kernel knows of a process and of a core.
//!
//! CPU is the sum of `sum_exec_runtime` over the process's threads, in
//! nanoseconds (`/proc/PID/task/*/schedstat`): user and system time, and with
//! this kernel's accounting also what soft interrupts did within it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::lab::process::Core;

/// Reads one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    pid: u32,
}

/// One look at the counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// CPU time of the process.
    pub(crate) cpu_seconds: f64,
    /// Time that the subjects' core was not idle, whoever used it.
    pub(crate) core_seconds: f64,
    pub(crate) resident_kib: f64,
}

impl Meter {
    pub(crate) const fn new(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn read(self) -> Result<Reading> {
        Ok(Reading {
            cpu_seconds: self.cpu()?,
            core_seconds: busy(Core::Proxy)?,
            resident_kib: self.status("VmRSS")?,
        })
    }

    /// Lets the peak of resident memory start anew.
    pub(crate) fn reset_peak(self) -> Result<()> {
        fs::write(self.path("clear_refs"), "5").context("clear_refs")
    }

    pub(crate) fn peak_kib(self) -> Result<f64> {
        self.status("VmHWM")
    }

    /// Proportional set size: memory shared with others counts in part.
    pub(crate) fn pss_kib(self) -> Result<f64> {
        field(&fs::read_to_string(self.path("smaps_rollup"))?, "Pss")
    }

    fn cpu(self) -> Result<f64> {
        let mut nanos = 0.0;
        for thread in fs::read_dir(self.path("task")).context("the subject is gone")? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            nanos += text
                .split(' ')
                .next()
                .context("schedstat")?
                .parse::<f64>()?;
        }
        Ok(nanos / 1e9)
    }

    fn status(self, name: &str) -> Result<f64> {
        field(&fs::read_to_string(self.path("status"))?, name)
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }
}

/// `NAME:  VALUE kB`
fn field(text: &str, name: &str) -> Result<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line
        .and_then(|line| line.split_whitespace().next())
        .context("no such field")?;
    Ok(value.parse()?)
}

/// Seconds since boot that a core was not idle: user, nice, system, irq, softirq.
pub(crate) fn busy(core: Core) -> Result<f64> {
    const TICKS: f64 = 100.0;
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{} ", core.number());
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .context("no such core")?;
    let ticks = line
        .split(' ')
        .map(str::parse)
        .collect::<Result<Vec<f64>, _>>()?;
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    let stolen: f64 = ticks.iter().skip(7).sum();
    Ok((ticks.iter().sum::<f64>() - idle - stolen) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_process() {
        let meter = Meter::new(std::process::id());
        let first = meter.read().expect("readable");
        std::hint::black_box((0..1_000_000_u64).fold(0, u64::wrapping_add));
        let second = meter.read().expect("readable");
        assert!(second.cpu_seconds >= first.cpu_seconds);
        assert!(second.resident_kib > 100.0);
        assert!(meter.pss_kib().expect("readable") > 100.0);
    }

    #[test]
    fn takes_a_field_by_its_whole_name() {
        let text = "VmRSSx:\t 1 kB\nVmRSS:\t  42 kB\n";
        assert!((field(text, "VmRSS").expect("there") - 42.0).abs() < f64::EPSILON);
        assert!(field(text, "Vm").is_err());
    }
}
