//! Puts the parts of the daemon together: the only place that knows them all.

mod enrolment;
mod observe;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use ersatz_api::{NodeConfig, Resources};
use ersatz_steering::{Close, InstanceName, Kept, Listeners, Options, SandboxId, Steering};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    audit::{Audit, Target},
    binding::{self, Binding},
    config::Config,
    dns,
    listener::Gate,
    metrics::Metrics,
    node::Node,
    resolve::Resolver,
    sandboxes::Sandboxes,
    secrets::{EnvValues, Secrets},
    sink,
    tls::{Ca, Trust},
    upstream::Dialer,
    vet::Vet,
    worker::Workers,
    zone::NodeZones,
};

pub use enrolment::{EnrolError, Refused, SandboxHandle};

/// How a daemon is set up.
pub struct DaemonConfig {
    /// Which instance, and the directory of its state.
    pub steering: Options,
    /// Files and directories of resources; watched for changes. None: sandboxes bring their own.
    pub config: Vec<PathBuf>,
    /// Where audit records go; by default where the node's configuration says.
    pub audit: Option<Target>,
    /// A loopback port for metrics and readiness, beside the socket in the instance's directory.
    pub admin: Option<SocketAddr>,
}

/// A running daemon. It ends by [`Daemon::stop`]; dropped, it leaves its sandboxes cut off.
pub struct Daemon {
    inner: Arc<Inner>,
    tasks: JoinSet<()>,
    workers: Workers,
}

/// What enrolment needs, shared with every handle.
struct Inner {
    instance: InstanceName,
    node: Arc<Node>,
    steering: Arc<Steering>,
    dialer: Arc<Dialer>,
    trust: Trust,
    ca: Arc<Ca>,
    config: Arc<Config>,
    secrets: Arc<Secrets>,
    /// Sandboxes under the daemon's own policies, bound anew when those change.
    bindings: Mutex<HashMap<SandboxId, Binding>>,
    generation: AtomicU64,
    workers: usize,
    stop: CancellationToken,
}

impl Daemon {
    /// Starts a daemon, or takes over from a dead one of the same instance.
    ///
    /// Needs root, and a tokio runtime on which everything but connections runs. Not cancel-safe:
    /// await it to its end. Linux 6.6 or newer.
    pub async fn start(setup: DaemonConfig) -> anyhow::Result<Self> {
        raise_descriptors();
        let config = Config::load(setup.config)?;
        let resources = config.current();
        let settings = resources.node()?;
        let trust = Trust::load(settings.public_roots, &settings.root_files)?;
        let audit = Audit::open(setup.audit.unwrap_or_else(|| audit_target(&settings)))
            .context("cannot open the audit log")?;
        let vet = Vet::new(settings.allow_private.iter().copied());
        let resolver = Resolver::new(settings.resolvers.clone());
        let sources = binding::granted(&resources)?;
        let env = EnvValues::of_process(binding::variables(&sources));
        let secrets = Secrets::load(sources, env).await;
        let workers = Workers::start().context("cannot start the workers")?;

        let instance = setup.steering.instance;
        let directory = setup.steering.directory();
        let (steering, listeners) = Steering::start(setup.steering).await?;
        let metrics = Metrics::new();
        let dialer = Dialer::new(
            resolver,
            vet,
            settings.limits.connect_timeout,
            metrics.clone(),
        );
        let inner = Arc::new(Inner {
            instance,
            node: Arc::new(Node {
                sandboxes: Sandboxes::default(),
                audit,
                metrics,
                limits: settings.limits,
                places: Arc::new(Semaphore::new(settings.limits.connections as usize)),
            }),
            ca: Arc::new(authority(&steering, instance)?),
            steering: Arc::new(steering),
            dialer: Arc::new(dialer),
            trust,
            config,
            secrets,
            bindings: Mutex::default(),
            generation: AtomicU64::new(1),
            workers: workers.len(),
            stop: CancellationToken::new(),
        });
        let mut daemon = Self {
            inner,
            tasks: JoinSet::new(),
            workers,
        };
        daemon.listen(listeners)?;
        daemon.follow();
        daemon.observe(&directory, setup.admin).await?;
        info!(%instance, "ready");
        Ok(daemon)
    }

    /// Takes nothing more in, and lets no sandbox go that is enrolled now.
    pub fn shut(&self) {
        self.inner.stop.cancel();
    }

    /// Opens the audit log anew, after a rotation.
    pub fn reopen_audit(&self) {
        self.inner.node.audit.reopen();
    }

    /// Ends the daemon. Sandboxes that are still enrolled with an `ersatzd` stay steered and are
    /// cut off until the next one comes; otherwise nothing is left behind.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shut();
        let left = self.inner.node.sandboxes.all();
        for sandbox in &left {
            self.inner.node.sandboxes.remove(sandbox.id);
        }
        while self.tasks.join_next().await.is_some() {}
        drop(self.workers);
        self.inner.node.audit.flush().await;
        let inner = self.inner;
        let keep = !left.is_empty() && inner.instance == InstanceName::node();
        let close = if keep { Close::Keep } else { Close::Remove };
        inner.steering.close(close).await?;
        Ok(())
    }

    fn listen(&mut self, listeners: Listeners) -> anyhow::Result<()> {
        let Inner {
            node,
            steering,
            stop,
            ..
        } = &*self.inner;
        let gate = Arc::new(Gate {
            node: node.clone(),
            steering: steering.clone(),
            workers: self.workers.handles(),
            stop: stop.clone(),
        });
        let first = gate.workers.first().context("no worker")?.clone();
        for listener in [listeners.tcp4, listeners.tcp6] {
            let accepting = first.spawn(gate.clone().accept(listener));
            self.tasks.spawn(async move {
                if let Ok(Err(error)) = accepting.await {
                    error!(%error, "a listener failed");
                }
            });
        }
        let zones = Arc::new(NodeZones {
            node: node.clone(),
            steering: steering.clone(),
        });
        let udp4 = UdpSocket::from_std(listeners.udp4)?;
        let udp6 = UdpSocket::from_std(listeners.udp6)?;
        let stop = stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = dns::serve(zones, udp4, udp6, stop).await {
                error!(%error, "DNS failed");
            }
        });
        Ok(())
    }

    /// Keeps secrets and policies fresh, and forgets sandboxes whose link is gone.
    fn follow(&mut self) {
        let inner = &self.inner;
        self.tasks
            .spawn(inner.config.clone().follow(inner.stop.clone()));
        self.tasks
            .spawn(inner.secrets.clone().watch(inner.stop.clone()));
        let (rebinding, stop) = (inner.clone(), inner.stop.clone());
        self.tasks.spawn(async move {
            let mut changes = rebinding.config.watch();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                let resources = changes.borrow_and_update().clone();
                rebinding.reload(&resources).await;
            }
        });
        let (leaving, stop) = (inner.clone(), inner.stop.clone());
        let mut gone = inner.steering.on_link_gone();
        self.tasks.spawn(async move {
            loop {
                let id = tokio::select! {
                    () = stop.cancelled() => return,
                    id = gone.recv() => id,
                };
                let Some(id) = id else { return };
                leaving.forget(id).await;
            }
        });
    }
}

impl Inner {
    /// Puts changed resources in force for every sandbox that is under the daemon's own.
    async fn reload(&self, resources: &Resources) {
        match binding::granted(resources) {
            Ok(sources) => self.secrets.replace(sources).await,
            Err(error) => return warn!(%error, "the changed configuration does not compile"),
        }
        let generation = self.next_generation();
        for (id, binding) in self.bindings().iter_mut() {
            let Some(sandbox) = self.node.sandboxes.find(*id) else {
                continue;
            };
            let bound = binding.bind(resources, self.secrets.clone(), generation);
            sandbox.rebind(bound.unwrap_or_else(|error| {
                warn!(sandbox = %id, %error, "the sandbox has no policy any more: all is denied");
                let name = binding.policy.as_deref().unwrap_or_default();
                binding::deny_all(name, self.secrets.clone(), generation)
            }));
        }
        self.node.metrics.config_reload(true);
    }

    fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Relaxed)
    }

    fn bindings(&self) -> MutexGuard<'_, HashMap<SandboxId, Binding>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every connection takes two descriptors, and the usual soft limit is 1,024.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit on descriptors stays as it is");
    }
}

fn audit_target(settings: &NodeConfig) -> Target {
    match &settings.audit_file {
        Some(path) => Target::To(sink::Target::File(path.clone())),
        None => Target::Off,
    }
}

/// The authority of the instance: the one that a dead daemon left in the kernel, or a new one.
fn authority(steering: &Steering, instance: InstanceName) -> anyhow::Result<Ca> {
    if let Some(kept) = steering.kept(Kept::Ca) {
        match Ca::from_bytes(&kept) {
            Ok(ca) => return Ok(ca),
            Err(error) => warn!(%error, "the kept authority is not used again"),
        }
    }
    let ca = Ca::generate()?;
    if instance == InstanceName::node() {
        steering.keep(Kept::Ca, &ca.to_bytes())?;
    }
    Ok(ca)
}
