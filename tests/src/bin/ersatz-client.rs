//! The client that misbehaves, as a process that a sandbox runs: a job in JSON
//! on its standard input, the results in JSON on its standard output.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use ersatz_tests::client::{connections, probe};

/// Does what no honest client would.
#[derive(Parser)]
enum Command {
    /// Make single requests whose parts contradict each other.
    Probe,
    /// Make many connections.
    Connections,
}

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ersatz-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let job = serde_json::Deserializer::from_reader(std::io::stdin());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let output = std::io::stdout();
    match command {
        Command::Probe => {
            let cases: Vec<probe::Case> = read(job)?;
            serde_json::to_writer(output, &runtime.block_on(probe::run(&cases))?)?;
        }
        Command::Connections => {
            let plan: connections::Plan = read(job)?;
            serde_json::to_writer(output, &runtime.block_on(connections::run(&plan))?)?;
        }
    }
    Ok(())
}

fn read<'de, T, R>(mut job: serde_json::Deserializer<R>) -> Result<T>
where
    T: serde::Deserialize<'de>,
    R: serde_json::de::Read<'de>,
{
    T::deserialize(&mut job).context("not a job")
}
