//! `ersatz policy`: what a policy means, without running anything.
//!
//! `check` reports every error of the resources and what each policy grants; `explain` asks the same trust core
//! that the daemon asks, so its answer is the daemon's answer.

mod ask;
mod check;
mod explain;
mod paint;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ersatz_api::{LoadErrors, Resources};
use serde_json::json;

use ask::Question;
use paint::Paint;

/// Check policies, and explain what they decide.
#[derive(Debug, Args)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "one value in the life of the process"
)]
enum Verb {
    /// Report every error of resource files, or what each policy grants
    ///
    /// Ends with 0 when all is well, and with 1 when there are errors.
    Check(Check),
    /// Say what would happen to a request, a connection or a name, and why
    ///
    /// Ends with 0 when it is allowed, with 3 when it is denied, and with 1 when the files have errors.
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Check {
    /// Resource files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct Explain {
    /// A resource file, or a directory of them; may be repeated
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The policy to ask, when the files hold several
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    #[command(flatten)]
    question: Asked,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Asked {
    #[arg(long, value_name = "METHOD URL", value_parser = Question::request,
        help = "A request, as in 'GET https://api.github.com/repos/acme/x'")]
    request: Option<Question>,
    /// A connection to a name or an address, as in db.example.com:5432
    #[arg(long, value_name = "HOST:PORT", value_parser = Question::connect)]
    connect: Option<Question>,
    /// A name to be resolved
    #[arg(long, value_name = "NAME", value_parser = Question::resolve)]
    resolve: Option<Question>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Runs the command. Errors are those of writing the result.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command.verb {
        Verb::Check(check) => run_check(&check),
        Verb::Explain(explain) => run_explain(explain),
    }
}

fn run_check(check: &Check) -> anyhow::Result<ExitCode> {
    let resources = match Resources::load(&check.files) {
        Ok(resources) => resources,
        Err(errors) => return refuse(&errors, check.output),
    };
    let summary = check::Summary::of(&resources);
    match check.output {
        Output::Text => print(&summary.render(Paint::for_stdout()))?,
        Output::Json => print_json(
            &json!({"valid": true, "policies": summary.policies, "notes": summary.notes}),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_explain(explain: Explain) -> anyhow::Result<ExitCode> {
    let Explain {
        files,
        policy,
        question,
        output,
    } = explain;
    let loaded = Resources::load(&files);
    let compiled = loaded.and_then(|resources| {
        resources
            .policy(policy.as_deref())
            .map(|(policy, _)| (resources, policy))
    });
    let (resources, policy) = match compiled {
        Ok(compiled) => compiled,
        Err(errors) => return refuse(&errors, output),
    };
    let question = question.request.or(question.connect).or(question.resolve);
    let Some(question) = question else {
        anyhow::bail!("one of --request, --connect, --resolve is needed")
    };
    let explanation = explain::explain(&resources, &policy, &question);
    match output {
        Output::Text => print(&explanation.render(Paint::for_stdout()))?,
        Output::Json => print_json(&serde_json::to_value(&explanation)?)?,
    }
    Ok(if explanation.allowed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DENIED)
    })
}

/// Reports errors: on standard error for people, on standard output for programs.
fn refuse(errors: &LoadErrors, output: Output) -> anyhow::Result<ExitCode> {
    match output {
        Output::Text => std::io::stderr()
            .write_all(check::render_errors(errors, Paint::for_stderr()).as_bytes())?,
        Output::Json => print_json(&json!({"valid": false, "errors": errors}))?,
    }
    Ok(ExitCode::from(INVALID))
}

fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// A reader that has seen enough, as in `ersatz policy check … | head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The exit code when the files have errors.
const INVALID: u8 = 1;
/// The exit code when the policy denies.
const DENIED: u8 = 3;
