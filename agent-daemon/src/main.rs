//! `ersatzd`: the node daemon.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use ersatz_daemon::{
    app::{Daemon, DaemonConfig},
    control,
    logging::Log,
};
use ersatz_steering::{InstanceName, Options};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

/// Puts real credentials in the place of stubs, for every sandbox of this machine.
#[derive(Parser)]
#[command(version, after_help = HELP)]
struct Arguments {
    /// A directory of resources (*.yaml, *.yml), or a file; may be given more than once
    #[arg(long, value_name = "DIR", default_value = "/etc/ersatz")]
    config: Vec<PathBuf>,
    /// Also serve /metrics, /livez and /readyz on this loopback address
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

const HELP: &str = "\
Examples:
  ersatzd --config /etc/ersatz
  ersatzd --config /etc/ersatz --admin 127.0.0.1:9464

Sandboxes are enrolled over /run/ersatz/ersatzd.sock, which `ersatz run` uses when it is there.
Metrics and readiness are served on /run/ersatz/node/admin.sock. ERSATZ_LOG sets the log's level.

Exit codes: 0 after SIGTERM or SIGINT; 1 when the daemon cannot start or stop as it should;
2 for arguments that make no sense.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = match Log::start("info") {
        Ok(log) => log,
        Err(error) => {
            eprintln!("ersatzd: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ersatzd: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let ended = serve(arguments).await;
        if let Err(error) = &ended {
            error!("{error:#}");
        }
        log.flush().await;
        ended
    });
    if ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Secrets are in memory: none of it goes to a core file, or to another process of the same user.
fn harden() -> anyhow::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).context("cannot forbid core dumps")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot become undumpable")
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    harden()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let daemon = Daemon::start(DaemonConfig {
        steering: Options::new(InstanceName::node()),
        config: arguments.config,
        audit: None,
        admin: arguments.admin,
    });
    let daemon = Arc::new(daemon.await?);
    let socket = control::bind(control::SOCKET.as_ref())
        .with_context(|| format!("cannot listen on {}", control::SOCKET))?;
    let serving = tokio::spawn(control::serve(daemon.clone(), socket));
    info!(socket = control::SOCKET, "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => daemon.reopen_audit(),
        }
    }
    info!("stopping");
    daemon.shut();
    serving.abort();
    // The task is gone when this returns, and with it its hold on the daemon.
    let _ = serving.await;
    // A client that finds no socket tries again until the next daemon is there.
    let _ = std::fs::remove_file(control::SOCKET);
    Arc::into_inner(daemon)
        .context("the daemon is still in use")?
        .stop()
        .await
}
