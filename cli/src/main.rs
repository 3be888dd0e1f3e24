//! `ersatz`: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use ersatz::{
    arguments::{Arguments, Command},
    doctor, exit, init, policy, run,
};

fn main() -> ExitCode {
    if init::is_meant() {
        return init::main();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return refuse(&usage),
    };
    let result = match arguments.command {
        Command::Run(options) => run::run(options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Policy(command) => policy::run(command),
    };
    result.unwrap_or_else(|error| exit::failed(&error))
}

/// Prints help or what is wrong with the command line.
fn refuse(usage: &clap::Error) -> ExitCode {
    // Nothing is left to be said when even standard error is closed.
    drop(usage.print());
    if usage.use_stderr() {
        ExitCode::from(exit::FAILED)
    } else {
        ExitCode::SUCCESS
    }
}
