//! The sandboxes that this daemon serves, each with all that belongs to it alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use ersatz_policy::{Authority, Denied, Host, InterceptPermit, Policy, Reason, Tls};
use ersatz_steering::SandboxId;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::SandboxTag,
    dns::{Limits, Synthetic},
    inject::Stubs,
    refusals::Refusals,
    secrets::Secrets,
    tls::Leaves,
    upstream::{Dialing, Upstreams},
};

/// One sandbox. Nothing in here is shared with another one.
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) tag: SandboxTag,
    pub(crate) leaves: Leaves,
    pub(crate) names: Synthetic,
    pub(crate) dns_limits: Limits,
    pub(crate) dialing: Arc<Dialing>,
    bound: ArcSwap<Bound>,
    upstreams: Vec<Upstreams>,
    /// What was refused, for whoever made the sandbox.
    pub(crate) refusals: Refusals,
    open: AtomicUsize,
    max_connections: usize,
    closing: CancellationToken,
}

/// What a sandbox may do, as one consistent state of policy, stubs and secrets.
pub(crate) struct Bound {
    /// Grows with every change, so that a connection sees that its permit is of yesterday.
    pub(crate) generation: u64,
    pub(crate) policy: Policy,
    pub(crate) stubs: Stubs,
    pub(crate) secrets: Arc<Secrets>,
}

impl Bound {
    /// Asks the policy again for a connection that was decided under an older one.
    pub(crate) fn intercept(&self, authority: &Authority) -> Result<InterceptPermit, Denied> {
        let Host::Name(name) = authority.host() else {
            unreachable!("an intercept permit is always for a name")
        };
        match self.policy.tls(name, authority.port())? {
            Tls::Intercept(permit) => Ok(permit),
            Tls::Passthrough(_) => Err(self.policy.denied(Reason::HostNotAllowed, name)),
        }
    }
}

impl Sandbox {
    pub(crate) fn new(
        id: SandboxId,
        tag: SandboxTag,
        bound: Bound,
        leaves: Leaves,
        dialing: Arc<Dialing>,
        workers: usize,
        max_connections: usize,
    ) -> Self {
        Self {
            id,
            tag,
            leaves,
            names: Synthetic::new(),
            dns_limits: Limits::new(),
            upstreams: (0..workers)
                .map(|_| Upstreams::new(dialing.clone()))
                .collect(),
            dialing,
            bound: ArcSwap::from_pointee(bound),
            refusals: Refusals::default(),
            open: AtomicUsize::new(0),
            max_connections,
            closing: CancellationToken::new(),
        }
    }

    pub(crate) fn bound(&self) -> arc_swap::Guard<Arc<Bound>> {
        self.bound.load()
    }

    /// As [`Sandbox::bound`], to be kept for longer than a moment.
    pub(crate) fn bound_full(&self) -> Arc<Bound> {
        self.bound.load_full()
    }

    /// Puts a new state in force for every request from now on. Idle upstream connections belong
    /// to the old one and are closed.
    pub(crate) fn rebind(&self, bound: Bound) {
        self.bound.store(Arc::new(bound));
        self.upstreams.iter().for_each(Upstreams::clear);
    }

    /// The upstream connections that live on `worker`.
    pub(crate) fn upstreams(&self, worker: usize) -> &Upstreams {
        let last = self.upstreams.len().saturating_sub(1);
        self.upstreams
            .get(worker.min(last))
            .expect("a daemon has at least one worker")
    }

    /// How many upstream connections are held open for later requests.
    pub(crate) fn idle_upstreams(&self) -> usize {
        self.upstreams.iter().map(Upstreams::idle).sum()
    }

    /// Cancelled when the sandbox ends; every connection of it ends then.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// A place for one more connection, or `None` when the sandbox has too many.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        if self.open.fetch_add(1, Relaxed) >= self.max_connections {
            self.open.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Admitted(self.clone()))
    }
}

/// One open connection of a sandbox; gives its place back when dropped.
pub(crate) struct Admitted(Arc<Sandbox>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// All sandboxes, by the identity that the kernel gives their packets.
#[derive(Default)]
pub(crate) struct Sandboxes(RwLock<HashMap<SandboxId, Arc<Sandbox>>>);

impl Sandboxes {
    pub(crate) fn find(&self, id: SandboxId) -> Option<Arc<Sandbox>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(crate) fn insert(&self, sandbox: Arc<Sandbox>) {
        let id = sandbox.id;
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sandbox);
    }

    /// Takes a sandbox out and ends its connections.
    pub(crate) fn remove(&self, id: SandboxId) -> Option<Arc<Sandbox>> {
        let gone = self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)?;
        gone.closing.cancel();
        Some(gone)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Sandbox>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}
