//! The steering of one instance, as the daemon uses it.

use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ersatz_ebpf_common::DropReason;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    Adopt, InstanceName, Kept, LinkPins, Listeners, SandboxId, SteeringError, drops::Drops,
    gate::Gate, instance::Instance, kept::Keeper, log, programs::Programs, start, table::Table,
    watch,
};

/// Which instance, and where its state is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instance's name.
    pub instance: InstanceName,
    /// The directory of all instances; must be on a filesystem that forgets (tmpfs).
    pub state_dir: PathBuf,
}

impl Options {
    /// An instance in the usual place, `/run/ersatz`.
    pub fn new(instance: InstanceName) -> Self {
        Self {
            instance,
            state_dir: PathBuf::from("/run/ersatz"),
        }
    }

    /// The directory of this instance.
    pub fn directory(&self) -> PathBuf {
        self.state_dir.join(self.instance.to_string())
    }
}

/// What becomes of the steering when the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Everything that was made is removed; links of others are free again.
    Remove,
    /// Everything stays: sandboxes reach nothing until the next daemon comes.
    Keep,
}

/// A sandbox that is behind the gate.
#[derive(Clone, Copy, Debug)]
pub struct Enrolled {
    /// Its identity from now on.
    pub id: SandboxId,
    /// The host's side of its link.
    pub ifindex: u32,
    /// Whether an earlier process of the instance had enrolled it already.
    pub adopted: bool,
}

/// The running steering. Dropping it is like the death of the process: all
/// that is pinned stays ([`Close::Keep`]).
pub struct Steering {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the blocking work shares.
pub(crate) struct Inner {
    instance: Mutex<Option<Instance>>,
    name: InstanceName,
    _gate: Gate,
    /// Held during a change: an enrolment takes some tens of milliseconds.
    programs: Mutex<Programs>,
    keeper: Mutex<Keeper>,
    drops: Drops,
    table: RwLock<Table>,
    watchers: Mutex<Vec<mpsc::Sender<SandboxId>>>,
}

/// What a start brings up.
pub(crate) struct Parts {
    pub(crate) gate: Gate,
    pub(crate) programs: Programs,
    pub(crate) keeper: Keeper,
    pub(crate) drops: Drops,
    pub(crate) table: Table,
}

impl Steering {
    /// Starts an instance, or takes over what a dead process of it left.
    ///
    /// Removes the remains of dead `run-*` instances first. Needs root and a
    /// tokio runtime with I/O; the calling thread's network namespace is the
    /// node's. Not cancel-safe: await it to its end.
    pub async fn start(options: Options) -> Result<(Self, Listeners), SteeringError> {
        let (inner, listeners) = blocking(move || start::start(&options)).await?;
        let forwarder = log::forward(&mut inner.programs());
        let inner = Arc::new(inner);
        let tasks = forwarder
            .into_iter()
            .chain([watch::spawn(&inner)?])
            .collect();
        Ok((Self { inner, tasks }, listeners))
    }

    /// Puts the sandbox of a network namespace behind the gate.
    ///
    /// Makes its link `eth0` with 100.64.0.2/32 and `fd00:e25a::2/128`, default
    /// routes, and loopback. With [`Adopt::IfKnown`] a sandbox that the
    /// instance had before keeps link and identity. Should the future be
    /// dropped, the sandbox is removed again.
    pub async fn enrol_netns(
        &self,
        netns: OwnedFd,
        adopt: Adopt,
    ) -> Result<Enrolled, SteeringError> {
        self.enrol_netns_with(netns, adopt, |_| ()).await
    }

    /// As [`Steering::enrol_netns`], but calls `register` with the identity
    /// before the first connection can arrive. A sandbox that goes on from an
    /// earlier process has connections waiting.
    pub async fn enrol_netns_with(
        &self,
        netns: OwnedFd,
        adopt: Adopt,
        register: impl FnOnce(SandboxId) + Send + 'static,
    ) -> Result<Enrolled, SteeringError> {
        self.enrol(move |inner| inner.enrol_netns(&netns, adopt, register))
            .await
    }

    /// Puts the sandbox on an existing link behind the gate; `ifindex` is the
    /// host's side of its veth. Should the future be dropped, it is removed again.
    pub async fn enrol_link(
        &self,
        ifindex: u32,
        pins: LinkPins,
    ) -> Result<Enrolled, SteeringError> {
        self.enrol(move |inner| inner.enrol_link(ifindex, &pins))
            .await
    }

    /// Takes a sandbox away whose connections the caller has closed; an
    /// unknown one is no error. Its slot becomes the last to be used again.
    pub async fn remove(&self, id: SandboxId) -> Result<(), SteeringError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.remove(id)).await
    }

    /// The sandbox behind a connection's peer address, or a datagram's.
    pub fn identify(&self, peer: IpAddr) -> Option<SandboxId> {
        self.inner.table().identify(peer)
    }

    /// Frames dropped so far, by reason, over the instance's whole life.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        self.inner.drops.counted()
    }

    /// Sandboxes of this process whose link or namespace ended: to be removed
    /// by [`Steering::remove`]. Each call gives a receiver of its own.
    pub fn on_link_gone(&self) -> mpsc::Receiver<SandboxId> {
        // Each sandbox is reported once, so this many can be outstanding.
        let (sender, receiver) = mpsc::channel(ersatz_ebpf_common::SLOTS as usize);
        self.inner.watchers().push(sender);
        receiver
    }

    /// Keeps at most 2 KiB where the next process of this instance finds it.
    pub fn keep(&self, what: Kept, bytes: &[u8]) -> Result<(), SteeringError> {
        if self.inner.keeper().keep(what, bytes)? {
            return Ok(());
        }
        Err(SteeringError::System {
            action: "keep more than 2 KiB",
            source: std::io::ErrorKind::InvalidInput.into(),
        })
    }

    /// What this process or an earlier one kept.
    pub fn kept(&self, what: Kept) -> Option<Vec<u8>> {
        self.inner.keeper().kept(what)
    }

    /// Ends the steering of this process.
    pub async fn close(&self, what: Close) -> Result<(), SteeringError> {
        for task in &self.tasks {
            task.abort();
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || start::close(&inner, what)).await
    }

    async fn enrol(
        &self,
        work: impl FnOnce(&Inner) -> Result<Enrolled, SteeringError> + Send + 'static,
    ) -> Result<Enrolled, SteeringError> {
        let inner = Arc::clone(&self.inner);
        let pending = blocking(move || {
            let enrolled = work(&inner)?;
            Ok(Pending {
                inner,
                enrolled: Some(enrolled),
            })
        })
        .await?;
        Ok(pending.taken())
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // The lock goes at once, and not with the last aborted task.
        drop(self.inner.take_instance());
    }
}

/// An enrolment that nobody has taken yet: removed when dropped.
struct Pending {
    inner: Arc<Inner>,
    enrolled: Option<Enrolled>,
}

impl Pending {
    fn taken(mut self) -> Enrolled {
        self.enrolled
            .take()
            .expect("set by whoever made it, and taken once")
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(enrolled) = self.enrolled
            && let Err(error) = self.inner.remove(enrolled.id)
        {
            tracing::warn!(%error, sandbox = %enrolled.id, "could not undo an abandoned enrolment");
        }
    }
}

impl Inner {
    pub(crate) fn new(instance: Instance, parts: Parts) -> Self {
        Self {
            name: instance.name(),
            instance: Mutex::new(Some(instance)),
            _gate: parts.gate,
            programs: Mutex::new(parts.programs),
            keeper: Mutex::new(parts.keeper),
            drops: parts.drops,
            table: RwLock::new(parts.table),
            watchers: Mutex::default(),
        }
    }

    pub(crate) fn instance_name(&self) -> InstanceName {
        self.name
    }

    /// The instance, once: whoever has it ends it.
    pub(crate) fn take_instance(&self) -> Option<Instance> {
        let mut held = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }

    pub(crate) fn programs(&self) -> MutexGuard<'_, Programs> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watchers(&self) -> MutexGuard<'_, Vec<mpsc::Sender<SandboxId>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs blocking work beside the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SteeringError> + Send + 'static,
) -> Result<T, SteeringError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(SteeringError::System {
                action: "finish before the runtime ended",
                source: std::io::ErrorKind::Interrupted.into(),
            }),
        },
    }
}
