//! The fake world as a process: `ersatz-world serve CONFIG` or `ersatz-world
//! witness FILE`; says `ready` on its standard output when it is.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use ersatz_tests::world;

/// Servers for tests, in the network namespace it is started in.
#[derive(Parser)]
enum Command {
    /// Be every server of the world.
    Serve {
        /// A JSON file that says what each host accepts.
        config: PathBuf,
    },
    /// Write down every frame of this namespace.
    Witness {
        /// Where to.
        output: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ersatz-world: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let ready = || println!("ready");
    match command {
        Command::Serve { config } => {
            let config = std::fs::read(&config).context("cannot read the configuration")?;
            let config = serde_json::from_slice(&config).context("not a configuration")?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(world::serve(config, ready))
        }
        Command::Witness { output } => world::witness::watch(&output, ready),
    }
}
