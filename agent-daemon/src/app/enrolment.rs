//! Taking sandboxes in, and letting them go.

use std::{
    error::Error,
    iter::successors,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use ersatz_api::{LoadErrors, Source};
use ersatz_policy::{CredentialName, Reason};
use ersatz_steering::{Adopt, SandboxId, SteeringError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Daemon, Inner};
use crate::{
    audit::{SandboxTag, Subject},
    binding::{self, BindError, Binding},
    control::{self, Enrol, Refusal},
    enrol::{EnrolRequest, Enrolled},
    resolve::SandboxKey,
    sandboxes::{Bound, Sandbox},
    secrets::{EnvValues, Secrets},
    tls::{CaError, Leaves, UpstreamTls},
    upstream::Dialing,
};

/// The address in a sandbox's `resolv.conf`. Any would do: all of them are answered by us.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1));

/// Why a sandbox cannot be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(transparent)]
    Resources(#[from] LoadErrors),
    #[error("the sandbox cannot be steered")]
    Steering(#[from] SteeringError),
    #[error("no randomness from the kernel")]
    Random(#[from] getrandom::Error),
    #[error("the sandbox's keys cannot be made")]
    Keys,
}

impl From<BindError> for EnrolError {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Resources(error) => Self::Resources(error),
            BindError::Random(error) => Self::Random(error),
        }
    }
}

impl From<CaError> for EnrolError {
    fn from(_: CaError) -> Self {
        Self::Keys
    }
}

impl EnrolError {
    /// A label of a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Resources(_) => "resources-invalid",
            Self::Steering(error) => error.reason(),
            Self::Random(_) | Self::Keys => "internal",
        }
    }
}

/// A sandbox as its creator holds it: dropping it ends the enrolment.
pub struct SandboxHandle {
    inner: Arc<Inner>,
    id: SandboxId,
    refused: Arc<Sandbox>,
    runtime: tokio::runtime::Handle,
    _fresh: tokio_util::sync::DropGuard,
}

/// Something that was refused to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    /// The host or address.
    pub target: String,
    pub count: u64,
}

impl SandboxHandle {
    /// What was refused to the sandbox so far, the first kinds of it.
    pub fn refused(&self) -> Vec<Refused> {
        self.refused.refusals.list()
    }

    /// Ends the enrolment and waits until it has ended.
    pub async fn end(self) {
        self.inner.forget(self.id).await;
    }
}

impl Drop for SandboxHandle {
    fn drop(&mut self) {
        let (inner, id) = (self.inner.clone(), self.id);
        // At the daemon's own end there may be no runtime left; then it is removed with all else.
        self.runtime.spawn(async move { inner.forget(id).await });
    }
}

impl Daemon {
    /// Enrols the sandbox of `netns`: when this returns, all that leaves it comes to us.
    pub async fn enrol(
        &self,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> Result<(SandboxHandle, Enrolled), EnrolError> {
        self.inner.enrol(request, netns).await
    }
}

impl Enrol for Daemon {
    type Handle = SandboxHandle;

    async fn enrol(
        &self,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> Result<(SandboxHandle, Enrolled), Refusal> {
        self.inner
            .enrol(request, netns)
            .await
            .map_err(|error| Refusal {
                reason: error.reason().to_owned(),
                message: chain(&error),
            })
    }

    fn refused(handle: &SandboxHandle) -> Vec<control::Refused> {
        let refused = handle.refused().into_iter();
        let told = refused.map(|one| control::Refused {
            reason: one.reason.as_str().to_owned(),
            target: one.target,
            count: one.count,
        });
        told.collect()
    }
}

/// The files that secrets are read from.
fn files(sources: &[(CredentialName, Source)]) -> Vec<PathBuf> {
    let paths = sources.iter().filter_map(|(_, source)| match source {
        Source::File { path } => Some(path.clone()),
        _ => None,
    });
    paths.collect()
}

/// An error with all its causes, on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = successors(Some(error), |error| Error::source(*error));
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

impl Inner {
    pub(super) async fn enrol(
        self: &Arc<Self>,
        request: EnrolRequest,
        netns: OwnedFd,
    ) -> Result<(SandboxHandle, Enrolled), EnrolError> {
        let EnrolRequest {
            name,
            policy,
            resources,
            env,
            stubs,
        } = request;
        let adopt = if stubs.is_empty() {
            Adopt::Never
        } else {
            Adopt::IfKnown
        };
        let mut binding = Binding { policy, stubs };
        let fresh = CancellationToken::new();
        let own = resources.is_none();
        let hidden;
        let bound = match resources {
            None => {
                let resources = self.config.current();
                hidden = files(&binding::granted(&resources)?);
                binding.bind(&resources, self.secrets.clone(), self.next_generation())?
            }
            Some(resources) => {
                let sources = binding.sources(&resources)?;
                hidden = files(&sources);
                let secrets = Secrets::load(sources, EnvValues::from_iter(env)).await;
                tokio::spawn(secrets.clone().watch(fresh.clone()));
                binding.bind(&resources, secrets, self.next_generation())?
            }
        };
        let leaves = Leaves::new(self.ca.clone())?;
        let given = Enrolled {
            env: binding::environment(&bound),
            stubs: binding.stubs.clone(),
            ca_pem: self.ca.pem(),
            resolver: RESOLVER,
            hidden,
        };
        let sandbox = Arc::new(OnceLock::new());
        let (inner, registered) = (self.clone(), sandbox.clone());
        // Known before its first connection can arrive: after a change of daemon some are waiting.
        let register = move |id| {
            let sandbox = Arc::new(inner.sandbox(id, &name, bound, leaves));
            inner.node.sandboxes.insert(sandbox.clone());
            let _ = registered.set(sandbox);
        };
        let enrolled = self.steering.enrol_netns_with(netns, adopt, register).await;
        let sandbox = sandbox.get().cloned();
        let (id, sandbox) = match (enrolled, sandbox) {
            (Ok(enrolled), Some(sandbox)) => (enrolled.id, sandbox),
            (enrolled, sandbox) => {
                if let Some(sandbox) = sandbox {
                    self.node.sandboxes.remove(sandbox.id);
                }
                return Err(enrolled.map_or_else(EnrolError::from, |_| EnrolError::Keys));
            }
        };
        if own {
            self.bindings().insert(id, binding);
        }
        self.node.metrics.sandboxes.inc();
        info!(sandbox = %id, policy = sandbox.bound().policy.name(), "enrolled");
        let handle = SandboxHandle {
            inner: self.clone(),
            id,
            refused: sandbox,
            runtime: tokio::runtime::Handle::current(),
            _fresh: fresh.drop_guard(),
        };
        Ok((handle, given))
    }

    fn sandbox(&self, id: SandboxId, name: &str, bound: Bound, leaves: Leaves) -> Sandbox {
        let subject = Subject {
            name,
            epoch: id.epoch(),
            ..Subject::default()
        };
        let dialing = Dialing {
            dialer: self.dialer.clone(),
            sandbox: SandboxKey(u64::from(id.epoch()) << 16 | u64::from(id.slot())),
            tls: UpstreamTls::new(&self.trust),
        };
        let connections = self.node.limits.connections_per_sandbox as usize;
        let tag = SandboxTag::new(&subject);
        Sandbox::new(
            id,
            tag,
            bound,
            leaves,
            Arc::new(dialing),
            self.workers,
            connections,
        )
    }

    /// Cuts a sandbox's connections, and then takes its identity away. A daemon that is ending
    /// leaves its sandboxes to the next one.
    pub(super) async fn forget(&self, id: SandboxId) {
        if self.stop.is_cancelled() {
            return;
        }
        let Some(sandbox) = self.node.sandboxes.remove(id) else {
            return;
        };
        self.bindings().remove(&id);
        self.dialer.forget(sandbox.dialing.sandbox);
        self.node.metrics.sandboxes.dec();
        if let Err(error) = self.steering.remove(id).await {
            warn!(sandbox = %id, %error, "the sandbox's link is not removed");
        }
        info!(sandbox = %id, "ended");
    }
}
