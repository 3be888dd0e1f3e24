//! Many connections: open at once, or one after another, each told from the
//! others by the destination that the world's greeting names.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};

/// Longer than a connection may take when thousands are made.
const PATIENCE: Duration = Duration::from_mins(1);
/// Errors that are reported in words.
const REPORTED: usize = 5;

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Destinations, taken in turn.
    pub targets: Vec<SocketAddr>,
    /// How many connections in all.
    pub count: usize,
    /// How many of them at once.
    pub at_once: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Connections that reached the right destination and were echoed.
    pub right: usize,
    /// How many failed.
    pub failed: usize,
    /// The first errors.
    pub errors: Vec<String>,
    /// The longest wait for a connection and its greeting, in milliseconds.
    pub slowest_ms: u64,
}

impl Report {
    fn add(&mut self, outcome: Result<Duration>) {
        match outcome {
            Ok(waited) => {
                self.right += 1;
                let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                self.slowest_ms = self.slowest_ms.max(waited);
            }
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < REPORTED {
                    self.errors.push(format!("{error:#}"));
                }
            }
        }
    }
}

/// Makes the connections, `at_once` of them open together in every round.
///
/// With `at_once` equal to `count` all of them are open at the same moment.
pub async fn run(plan: &Plan) -> Result<Report> {
    ensure!(
        !plan.targets.is_empty() && plan.at_once > 0,
        "nothing to do"
    );
    let rounds = plan.count.div_ceil(plan.at_once);
    // All of a round wait for each other only when there is one round.
    let barrier = (rounds == 1).then(|| Arc::new(Barrier::new(plan.count)));
    let mut tasks = JoinSet::new();
    let mut report = Report::default();
    for (number, target) in plan.targets.iter().cycle().take(plan.count).enumerate() {
        if tasks.len() >= plan.at_once
            && let Some(outcome) = tasks.join_next().await
        {
            report.add(outcome?);
        }
        tasks.spawn(one(number, *target, barrier.clone()));
    }
    while let Some(outcome) = tasks.join_next().await {
        report.add(outcome?);
    }
    Ok(report)
}

async fn one(number: usize, target: SocketAddr, barrier: Option<Arc<Barrier>>) -> Result<Duration> {
    let started = Instant::now();
    let opened = tokio::time::timeout(PATIENCE, open(target))
        .await
        .context("connect: hang");
    let waited = started.elapsed();
    // Those that failed are waited for as well: the others must not hang.
    if let Some(barrier) = barrier {
        barrier.wait().await;
    }
    let stream = opened??;
    tokio::time::timeout(PATIENCE, echo(stream, number))
        .await
        .context("echo: hang")??;
    Ok(waited)
}

async fn open(target: SocketAddr) -> Result<BufStream<TcpStream>> {
    let mut stream = BufStream::new(TcpStream::connect(target).await.context("connect")?);
    let mut greeting = String::new();
    stream.read_line(&mut greeting).await.context("greeting")?;
    ensure!(
        greeting == format!("WELCOME {target}\n"),
        "dialled {target}, reached {greeting:?}"
    );
    Ok(stream)
}

async fn echo(mut stream: BufStream<TcpStream>, number: usize) -> Result<()> {
    let message = format!("connection {number}\n");
    stream.write_all(message.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).await.context("echo")?;
    ensure!(
        answer == message.as_bytes(),
        "somebody else's bytes came back"
    );
    Ok(())
}
