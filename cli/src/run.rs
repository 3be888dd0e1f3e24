//! `ersatz run`: a command in a sandbox of this machine.
//!
//! The order matters: namespaces and the sandbox's first process exist before
//! this process has threads; signals are held back before that; the command
//! starts only when the sandbox is enrolled, so that its first packet is
//! already steered.

mod enrolment;
mod environment;
mod harden;
mod hints;
mod launch;
mod masks;
mod options;
mod preflight;
mod request;
mod signals;
mod sudo;
mod supervise;
mod terminal;
mod user;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use ersatz_daemon::{enrol::Enrolled, logging::Log};

pub use enrolment::{Enroller, Enrolment};
pub use options::Options;
pub(crate) use preflight::missing as missing_rights;
pub use user::User;

use crate::{exit, init::Plan};
use enrolment::Chosen;
use environment::Known;
use request::Gathered;
use signals::Signals;
use terminal::Terminal;

/// Runs the command that `options` names, and gives its exit code.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    preflight::check()?;
    let _log = Log::start(if options.verbose { "info" } else { "warn" })?;
    let served = enrolment::is_served();
    if served && options.audit.is_some() {
        bail!(
            "--audit is not for this run: ersatzd serves this machine, and audits by its NodeConfig"
        );
    }
    let files = request::files(&options, served)?;
    let enroller = if served {
        Chosen::Served
    } else {
        Chosen::own(files.clone(), options.audit.as_deref())
    };
    with(options, &files, enroller)
}

/// [`run`] with another way to enrol the sandbox, for tests.
pub fn with<E: Enroller>(
    options: Options,
    files: &[PathBuf],
    enroller: E,
) -> anyhow::Result<ExitCode> {
    harden::this_process()?;
    let user = User::of_sandbox(options.user.as_deref())?;
    let gathered = request::gather(&options, files)?;
    let signals = signals::hold_back()?;
    let sandbox = launch::launch()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sandboxed = Sandboxed {
        options,
        user,
        gathered,
        sandbox,
    };
    let code = runtime.block_on(sandboxed.run(enroller, signals))?;
    // What still waits in the background holds nothing that must be undone.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}

/// A sandbox in the making, and what is to run in it.
struct Sandboxed {
    options: Options,
    user: User,
    gathered: Gathered,
    sandbox: launch::Sandbox,
}

impl Sandboxed {
    async fn run<E: Enroller>(self, enroller: E, signals: signals::Held) -> anyhow::Result<u8> {
        let Sandboxed {
            options,
            user,
            gathered,
            sandbox,
        } = self;
        let mut signals = signals.listen()?;
        let (control, netns) = sandbox.connect()?;
        let Gathered {
            request,
            secrets,
            mut hidden,
            roots_pem,
        } = gathered;
        let result = signals.outlasted_by(enroller.enrol(request, netns)).await;
        let (lease, enrolled) = match result {
            Ok(result) => result.context("cannot enrol the sandbox")?,
            Err(signal) => return Ok(exit::by_signal(signal)),
        };
        hidden.extend_from_slice(&enrolled.hidden);
        let verbose = options.verbose;
        let command = Command {
            options,
            user,
            secrets,
            hidden,
            roots_pem,
            enrolled,
        };
        let code = command.run(control, signals).await;
        let refused = lease.end().await;
        let code = code?;
        hints::after(code, &refused?, verbose);
        Ok(code)
    }
}

/// The command of an enrolled sandbox.
struct Command {
    options: Options,
    user: User,
    secrets: Vec<Known>,
    hidden: Vec<PathBuf>,
    roots_pem: String,
    enrolled: Enrolled,
}

impl Command {
    async fn run(self, mut control: launch::Control, signals: Signals) -> anyhow::Result<u8> {
        if let Some(signal) = signals.seen() {
            return Ok(exit::by_signal(signal));
        }
        let terminal = Terminal::of_this_process();
        control.start(self.plan(&terminal)?).await?;
        let code = supervise::until_end(control, signals, &terminal).await;
        terminal.restore(!matches!(code, Ok(code) if code <= exit::SIGNAL));
        code
    }

    fn plan(self, terminal: &Terminal) -> anyhow::Result<Plan> {
        let environment = environment::Inputs {
            inherited: std::env::vars_os().collect(),
            options: &self.options,
            user: &self.user,
            secrets: &self.secrets,
            enrolled: &self.enrolled,
            path: if self.options.user.is_none() {
                sudo::path_of_caller()
            } else {
                None
            },
        }
        .assemble()?;
        Ok(Plan {
            user: self.user,
            command: self.options.command,
            environment,
            directory: std::env::current_dir()
                .context("the working directory is gone")?
                .into(),
            ca_pem: self.enrolled.ca_pem,
            roots_pem: self.roots_pem,
            resolver: self.enrolled.resolver,
            terminal: Terminal::path(),
            masks: masks::collect(&self.hidden)?,
            own_group: terminal.wants_own_group(),
            foreground: terminal.wants_own_group() && terminal.in_foreground(),
        })
    }
}
