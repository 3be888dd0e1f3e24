//! Whom the node asks: its hosts file, its `resolv.conf`, or the configured resolvers.
//!
//! The files are looked at again when they change, because a laptop changes its
//! network while the daemon runs.

use std::{
    fs,
    io::{self, Cursor},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
        ServerOrderingStrategy,
    },
    net::runtime::TokioRuntimeProvider,
    system_conf::parse_resolv_conf,
};
use tracing::{info, warn};

/// The resolvers and the hosts file of the node.
pub(super) struct Upstream {
    configured: Vec<SocketAddr>,
    files: Files,
    state: Mutex<State>,
}

pub(super) struct Files {
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

/// What is in force: `None` for resolvers when there are none to ask.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) resolver: Option<TokioResolver>,
    pub(super) hosts: Arc<Hosts>,
}

struct State {
    looked: Instant,
    stamps: Stamps,
    current: Current,
}

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time that one resolver has for one answer; a second try goes within the caller's five seconds.
const TRY: Duration = Duration::from_secs(2);

/// Octets of a hosts file or a `resolv.conf`: lists that block advertisements have some megabytes.
const FILE: u64 = 16 << 20;

impl Upstream {
    pub(super) fn new(configured: Vec<SocketAddr>) -> Self {
        Self::with_files(
            configured,
            Files {
                hosts: "/etc/hosts".into(),
                resolv_conf: "/etc/resolv.conf".into(),
            },
        )
    }

    pub(super) fn with_files(configured: Vec<SocketAddr>, files: Files) -> Self {
        let stamps = files.stamps();
        let current = read(&configured, &files);
        let state = State {
            looked: Instant::now(),
            stamps,
            current,
        };
        Self {
            configured,
            files,
            state: Mutex::new(state),
        }
    }

    /// What is in force now; reads again what has changed.
    pub(super) fn current(&self) -> Current {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != state.stamps {
                info!("the node's resolvers or hosts have changed");
                state.stamps = stamps;
                state.current = read(&self.configured, &self.files);
            }
        }
        state.current.clone()
    }
}

type Stamps = [Option<(SystemTime, u64)>; 2];

impl Files {
    fn stamps(&self) -> Stamps {
        [&self.hosts, &self.resolv_conf].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

fn read(configured: &[SocketAddr], files: &Files) -> Current {
    let servers = if configured.is_empty() {
        system_servers(&files.resolv_conf)
    } else {
        configured.iter().map(|addr| server(*addr)).collect()
    };
    Current {
        resolver: resolver(servers),
        hosts: Arc::new(hosts(&files.hosts)),
    }
}

fn system_servers(path: &Path) -> Vec<NameServerConfig> {
    let config = bounded(path).and_then(|text| parse_resolv_conf(text).map_err(io::Error::other));
    match config {
        Ok((config, _)) => config.into_parts().2,
        Err(error) => {
            warn!(path = %path.display(), %error, "no resolver: only the hosts file is asked");
            Vec::new()
        }
    }
}

fn hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    let read = bounded(path).and_then(|text| hosts.read_hosts_conf(Cursor::new(text)));
    if let Err(error) = read {
        warn!(path = %path.display(), %error, "hosts file not read");
    }
    hosts
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read(path)
}

fn server(addr: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = addr.port();
        connection
    };
    let connections = vec![
        at_port(ConnectionConfig::udp()),
        at_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(addr.ip(), true, connections)
}

fn resolver(servers: Vec<NameServerConfig>) -> Option<TokioResolver> {
    if servers.is_empty() {
        return None;
    }
    let config = ResolverConfig::from_name_servers(servers);
    let built = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options())
        .build();
    built
        .inspect_err(|error| warn!(%error, "no resolver: only the hosts file is asked"))
        .ok()
}

/// No cache, because ours is per sandbox; no hosts file, because ours is read
/// again; 0x20 and random ports against forged answers.
fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = TRY;
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = false;
    options.case_randomization = true;
    options.try_tcp_on_error = true;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options
}
