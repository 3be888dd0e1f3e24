//! What an audit record and its counters cost at load: at most 1.5 µs of CPU
//! together, the writing thread included. `cargo bench -p ersatz-daemon`.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use ersatz_daemon::{
    audit::{Audit, Protocol, Record, RecordId, SandboxTag, Subject, Swap, Target, Verdict},
    metrics::Metrics,
    sink,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};

const ROUNDS: u32 = 200_000;

fn main() {
    let dir = tempfile::TempDir::new().expect("a directory for the log");
    let file = sink::Target::File(dir.path().join("audit.jsonl"));
    let audit = Audit::open(Target::To(file)).expect("a log");
    let metrics = Metrics::new();
    let sandbox = SandboxTag::new(&Subject {
        name: "agent",
        epoch: 7,
        ..Subject::default()
    });
    let (record, counters) = (
        Measured::of(&sandbox, |r| audit.record(r)),
        Measured::of(&sandbox, |r| metrics.request(r)),
    );
    let making = Measured::of(&sandbox, |r| {
        black_box(r);
    });
    println!("making a record    {making}");
    println!("  and recording it {record}, {} lost", audit.lost());
    println!("  and counting it  {counters}");
}

/// CPU a round.
struct Measured {
    worker: Duration,
    process: Duration,
}

impl Measured {
    fn of(sandbox: &SandboxTag, run: impl Fn(&Record<'_>)) -> Measured {
        let before = (cpu(UsageWho::RUSAGE_THREAD), cpu(UsageWho::RUSAGE_SELF));
        for round in 0..ROUNDS {
            run(&record(sandbox));
            if round % 500 == 0 {
                // About 50,000 a second, as a core's worth of requests.
                thread::sleep(Duration::from_millis(10));
            }
        }
        Measured {
            worker: cpu(UsageWho::RUSAGE_THREAD).saturating_sub(before.0) / ROUNDS,
            process: cpu(UsageWho::RUSAGE_SELF).saturating_sub(before.1) / ROUNDS,
        }
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} in the worker, {:?} in all",
            self.worker, self.process
        )
    }
}

fn record(sandbox: &SandboxTag) -> Record<'_> {
    const SWAPS: &[Swap<'_>] = &[Swap {
        name: "github",
        placement: "header authorization",
    }];
    Record {
        id: RecordId::next(),
        sandbox,
        protocol: Protocol::H1,
        method: "GET",
        authority: "api.example.com",
        path: "/repos/acme/project/pulls",
        status: Some(200),
        verdict: Verdict::Allow,
        reason: None,
        credentials: SWAPS,
        bytes_in: 0,
        bytes_out: 1234,
        started: Instant::now(),
        upstream_time: Some(Duration::from_micros(1500)),
        upstream: Some(([192, 0, 2, 1], 443).into()),
        tls: Some("1.3"),
    }
}

fn cpu(whose: UsageWho) -> Duration {
    let usage = getrusage(whose).expect("the kernel knows this process");
    let micros = |time: TimeVal| time.num_microseconds().cast_unsigned();
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}
