//! Who has the sandbox: a running `ersatzd`, or a daemon in this process.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
};

use anyhow::Context;
use ersatz_daemon::{
    app::{Daemon, DaemonConfig, SandboxHandle},
    audit,
    control::{Client, Lease, Refused, SOCKET},
    enrol::{EnrolRequest, Enrolled},
    sink,
};
use ersatz_steering::{InstanceName, Options as SteeringOptions};

/// Enrols the one sandbox of this process.
pub trait Enroller {
    /// What keeps it enrolled.
    type Enrolment: Enrolment;

    /// Enrols the sandbox whose network namespace is `netns`.
    fn enrol(
        self,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> impl Future<Output = anyhow::Result<(Self::Enrolment, Enrolled)>>;
}

/// Keeps a sandbox enrolled.
pub trait Enrolment {
    /// Ends the sandbox's enrolment and says what was refused to it.
    fn end(self) -> impl Future<Output = anyhow::Result<Vec<Refused>>>;
}

/// Whether a daemon serves this machine.
pub(super) fn is_served() -> bool {
    UnixStream::connect(SOCKET).is_ok()
}

/// The running daemon where there is one, else one of our own.
pub(super) enum Chosen {
    /// `ersatzd` serves this machine.
    Served,
    /// This process serves its sandbox itself.
    Own {
        /// The files of resources, which are watched.
        config: Vec<PathBuf>,
        /// Where audit records go, when the command line says.
        audit: Option<audit::Target>,
    },
}

impl Chosen {
    /// A daemon of our own, with the resources of `config`.
    pub(super) fn own(config: Vec<PathBuf>, audit: Option<&Path>) -> Chosen {
        Chosen::Own {
            config,
            audit: audit.map(audit_target),
        }
    }
}

/// Standard output is the command's, so "-" is standard error.
fn audit_target(path: &Path) -> audit::Target {
    audit::Target::To(if path.as_os_str() == "-" {
        sink::Target::Stderr
    } else {
        sink::Target::File(path.to_owned())
    })
}

impl Enroller for Chosen {
    type Enrolment = Held;

    async fn enrol(
        self,
        mut request: EnrolRequest,
        netns: OwnedFd,
    ) -> anyhow::Result<(Held, Enrolled)> {
        let Chosen::Own { config, audit } = self else {
            let client = Client::connect(SOCKET.as_ref()).await?;
            let (lease, enrolled) = client.enrol(request, netns).await?;
            return Ok((Held::Served(lease), enrolled));
        };
        // Our own daemon reads the same files itself, and goes on doing so.
        request.resources = None;
        let steering = SteeringOptions::new(InstanceName::of_this_process());
        let daemon = Daemon::start(DaemonConfig {
            steering,
            config,
            audit,
            admin: None,
        })
        .await
        .context("cannot start the daemon of this run")?;
        match daemon.enrol(request, netns).await {
            Ok((handle, enrolled)) => Ok((Held::Own(Box::new((daemon, handle))), enrolled)),
            Err(error) => {
                daemon.stop().await?;
                Err(error.into())
            }
        }
    }
}

/// A sandbox that is enrolled.
pub(super) enum Held {
    /// With a running daemon.
    Served(Lease),
    /// With our own.
    Own(Box<(Daemon, SandboxHandle)>),
}

impl Enrolment for Held {
    async fn end(self) -> anyhow::Result<Vec<Refused>> {
        let (daemon, handle) = match self {
            Held::Served(lease) => return Ok(lease.end().await),
            Held::Own(own) => *own,
        };
        let refused = handle.refused().into_iter().map(|one| Refused {
            reason: one.reason.as_str().to_owned(),
            target: one.target,
            count: one.count,
        });
        let refused = refused.collect();
        handle.end().await;
        daemon
            .stop()
            .await
            .context("cannot remove what was made for this run")?;
        Ok(refused)
    }
}
