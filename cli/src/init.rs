//! The sandbox's first process: makes the sandbox from within, then reaps.
//!
//! `ersatz run` starts itself again as process 1 of fresh namespaces. This
//! process waits until the sandbox is enrolled, builds what the command may
//! see, gives up every privilege *itself*, and only then starts the command,
//! which so inherits the confinement and cannot run a moment without it.
//!
//! It holds no secret: its environment is empty and the plan has stubs only.
//! When `ersatz run` is gone, however it went, this process ends, and with it,
//! by the kernel's rule for process 1, everything in the sandbox.

mod command;
mod control;
mod descriptors;
mod files;
mod filesystem;
mod mask;
mod privileges;
mod seccomp;
mod supervise;

use std::{io, path::PathBuf, process::ExitCode};

pub use control::{FromInit, Plan, ToInit, decode_length, encode};
pub(crate) use files::public_bundle;
pub use files::{DIRECTORY, Trust};

use crate::exit;

/// The argument that makes this program an init.
pub const ARGUMENT: &str = "__init";

/// Why the sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A mount, or the making of its target, failed.
    #[error("cannot {what} {}", path.display())]
    Mount {
        /// What was tried, as a verb.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the sandbox could not be made.
    #[error("cannot make the trust store")]
    Trust(#[from] files::TrustError),
    /// A privilege could not be given up.
    #[error("cannot {what}")]
    Privilege {
        /// What was tried, as a verb.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The system call filter could not be built.
    #[error("cannot filter system calls")]
    Filter(#[from] seccomp::FilterError),
    /// The working directory cannot be entered as the sandbox's user.
    #[error("cannot enter {} as the sandbox's user (choose a directory of theirs)", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// `ersatz run` is gone or does not speak our language.
    #[error("lost the connection to ersatz run")]
    Control(#[source] io::Error),
    /// The command could not be started.
    #[error("cannot run {program}")]
    Command {
        /// The command's name.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl InitError {
    /// The exit code that `ersatz run` gives for it.
    pub fn code(&self) -> u8 {
        match self {
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                exit::NOT_FOUND
            }
            Self::Command { .. } => exit::CANNOT_EXECUTE,
            _ => exit::FAILED,
        }
    }
}

/// Whether this process was started as an init.
pub fn is_meant() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == ARGUMENT)
        && rustix::process::getpid() == rustix::process::Pid::INIT
}

/// Runs the init to its end, which is the sandbox's.
pub fn main() -> ExitCode {
    // First of all, as it closes whatever is open, ours included.
    let connected = descriptors::close_inherited().and_then(|()| control::Control::from_stdin());
    let Ok(mut control) = connected else {
        return ExitCode::from(exit::FAILED);
    };
    if let Err(error) = stages(&mut control) {
        // Without anybody to tell, the exit code is all that is left.
        drop(control.send(&FromInit::failed(&error)));
        return ExitCode::from(error.code());
    }
    ExitCode::SUCCESS
}

fn stages(control: &mut control::Control) -> Result<(), InitError> {
    filesystem::stop_propagation()?;
    let roots = files::public_roots();
    let (plan, stdin) = control.plan()?;
    let trust = Trust::build(&roots, &plan.ca_pem, &plan.roots_pem)?;
    filesystem::build(&plan, &trust)?;
    privileges::give_up(&plan.user)?;
    control.check_alive()?;
    seccomp::install()?;
    filesystem::enter(&plan.directory)?;
    let supervised = command::start(&plan, stdin)?;
    control.send(&FromInit::Started)?;
    supervise::until_end(control, supervised)
}
