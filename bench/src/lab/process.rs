//! Processes pinned to a core, and ended with their owner.

use std::{
    env,
    fs::File,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Which core a process is pinned to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Core {
    /// The subject's, and nobody else's.
    Proxy,
    /// Load generator and upstream.
    Load,
}

impl Core {
    pub(crate) const fn number(self) -> usize {
        match self {
            Self::Proxy => 0,
            Self::Load => 1,
        }
    }
}

/// A command that runs `program` on `core`, in the node's namespace.
pub(crate) fn pinned(core: Core, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command
        .arg("-c")
        .arg(core.number().to_string())
        .arg(program);
    command
}

/// A command that runs `program` on `core`, in a network namespace by name.
pub(crate) fn within(namespace: &str, core: Core, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg("taskset");
    command
        .arg("-c")
        .arg(core.number().to_string())
        .arg(program);
    command
}

/// The bench's own program.
pub(crate) fn itself() -> Result<PathBuf> {
    env::current_exe().context("the bench's own path")
}

/// A running program; dropping it kills it.
pub(crate) struct Process(Child);

impl Process {
    /// Starts the command with its output in a file.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| log.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let program = command.get_program().to_os_string();
        Ok(Self(command.spawn().with_context(|| {
            format!("cannot start {}", program.display())
        })?))
    }

    pub(crate) fn adopt(child: Child) -> Self {
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks the program to end, waits a little, and kills it if it has not.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.id().to_string()).status()?;
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if self.0.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `addr` accepts a connection.
pub(crate) fn wait_for_port(addr: &str, limit: Duration) -> Result<()> {
    let addr: SocketAddr = addr.parse()?;
    wait(limit, || {
        TcpStream::connect_timeout(&addr, Duration::from_millis(100)).is_ok()
    })
    .with_context(|| format!("nothing listens on {addr}"))
}

/// Waits until `path` exists.
pub(crate) fn wait_for_file(path: &Path, limit: Duration) -> Result<()> {
    wait(limit, || path.exists()).with_context(|| format!("{} did not appear", path.display()))
}

fn wait(limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !ready() {
        if Instant::now() > end {
            bail!("not within {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
