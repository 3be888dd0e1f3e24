//! What can go wrong with steering: always ours or the machine's fault.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use crate::InstanceName;

/// Why steering could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The kernel has no tcx links.
    #[error("this kernel is {found}: steering needs Linux 6.6 or newer (tcx links)")]
    Kernel {
        /// The kernel's release.
        found: String,
    },
    /// Another process runs this instance.
    #[error("instance {instance} is already running")]
    Busy {
        /// The instance.
        instance: InstanceName,
    },
    /// A file, directory or mount below the state directory.
    #[error("cannot {action} {}", path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A system call.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A change of links, addresses or routes.
    #[error("cannot {action}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// The kernel refused the programs or their maps.
    #[error("cannot load the kernel programs")]
    Load(#[from] EbpfError),
    /// A program could not be loaded or attached.
    #[error("cannot {action} a kernel program")]
    Program {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A map could not be read or written.
    #[error("cannot access a map of the kernel programs")]
    Map(#[from] MapError),
    /// Every slot is taken.
    #[error("no more than {limit} sandboxes can be enrolled at once")]
    Full {
        /// How many there can be.
        limit: u32,
    },
    /// The sandbox's addresses cannot be told apart, or are too many.
    #[error("a sandbox's addresses must be distinguishable, and at most four of each family")]
    Addresses,
}

impl SteeringError {
    /// The reason as a label: a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kernel { .. } => "kernel-too-old",
            Self::Busy { .. } => "instance-busy",
            Self::Path { .. } => "state-directory",
            Self::System { .. } => "system-call",
            Self::Netlink { .. } => "netlink",
            Self::Load(_) | Self::Program { .. } => "kernel-programs",
            Self::Map(_) => "map",
            Self::Full { .. } => "slots-exhausted",
            Self::Addresses => "sandbox-addresses",
        }
    }
}

/// Makes a closure for `map_err` of a failed system call.
pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> SteeringError {
    move |source| SteeringError::System {
        action,
        source: source.into(),
    }
}

/// Makes a closure for `map_err` of a failed call on a path.
pub(crate) fn path<E: Into<io::Error>>(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(E) -> SteeringError {
    let path = path.to_owned();
    move |source| SteeringError::Path {
        action,
        path,
        source: source.into(),
    }
}

/// Makes a closure for `map_err` of a failed netlink request.
pub(crate) fn netlink(action: &'static str) -> impl FnOnce(rtnetlink::Error) -> SteeringError {
    move |source| SteeringError::Netlink { action, source }
}

/// Makes a closure for `map_err` of a failed operation on a program.
pub(crate) fn program<E: Into<ProgramError>>(
    action: &'static str,
) -> impl FnOnce(E) -> SteeringError {
    move |source| SteeringError::Program {
        action,
        source: source.into(),
    }
}

/// Makes a closure for `map_err` of a failed pin.
pub(crate) fn pin<E: std::error::Error + Send + Sync + 'static>(
    to: &std::path::Path,
) -> impl FnOnce(E) -> SteeringError {
    let to = to.to_owned();
    move |error| SteeringError::Path {
        action: "pin to",
        path: to,
        source: io::Error::other(error),
    }
}
