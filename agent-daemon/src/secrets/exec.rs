//! A secret by a command: what it writes to its standard output.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use super::program;

/// What a command gave.
pub(super) struct Output {
    pub(super) stdout: Zeroizing<Vec<u8>>,
    /// What it complained of: the first 4 KiB. May hold anything, so it is checked before it is logged.
    pub(super) stderr: Zeroizing<Vec<u8>>,
    pub(super) status: ExitStatus,
}

/// Why a command gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// No such command, or not allowed to run it.
    #[error("the command could not be run: {0}")]
    Start(io::ErrorKind),
    /// Somebody else than root and the daemon's user may change it, an agent perhaps.
    #[error("the command, or a directory above it, may be changed by others than root")]
    Changeable,
    /// It did not end in its time and was killed.
    #[error("the command did not end within its time limit")]
    TimedOut,
    /// It ended with another status than 0, or by a signal.
    #[error("the command failed{}", status(*.0))]
    Failed(Option<i32>),
    /// It wrote more than 64 KiB.
    #[error("the command wrote more than 64 KiB")]
    TooLong,
}

fn status(code: Option<i32>) -> String {
    code.map_or_else(
        || " by a signal".to_owned(),
        |code| format!(" with status {code}"),
    )
}

/// Octets of standard output that are read.
const OUTPUT: usize = 64 << 10;

/// Octets of standard error that are kept; the rest is read and dropped, so that the command does not block.
const COMPLAINT: usize = 4 << 10;

/// Runs `command` without standard input and with a bare environment.
///
/// It runs in a process group of its own, which is killed when the time is over
/// or the caller goes away.
pub(super) async fn run(command: &[String], limit: Duration) -> Result<Output, ExecError> {
    let [program, arguments @ ..] = command else {
        return Err(ExecError::Start(io::ErrorKind::NotFound));
    };
    let child = Command::new(program::find(program)?)
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(program::environment())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ExecError::Start(error.kind()))?;
    let mut group = Group(child);
    timeout(limit, group.output())
        .await
        .map_err(|_| ExecError::TimedOut)?
}

/// A command with all that it has started.
struct Group(Child);

impl Group {
    async fn output(&mut self) -> Result<Output, ExecError> {
        let stdout = whole(self.0.stdout.take());
        let stderr = async { Ok(beginning(self.0.stderr.take()).await) };
        let (stdout, stderr) = tokio::try_join!(stdout, stderr)?;
        let status = self
            .0
            .wait()
            .await
            .map_err(|error| ExecError::Start(error.kind()))?;
        Ok(Output {
            stdout,
            stderr,
            status,
        })
    }
}

impl Drop for Group {
    /// While the child was not waited for, its id is nobody else's; after that there is nothing to kill.
    fn drop(&mut self) {
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Reads all of an output that is not too long. A broken pipe ends it, as its end does.
async fn whole(stream: Option<impl AsyncRead + Unpin>) -> Result<Zeroizing<Vec<u8>>, ExecError> {
    let mut octets = buffer(OUTPUT + 1);
    if let Some(stream) = stream {
        let _ = stream
            .take(OUTPUT as u64 + 1)
            .read_to_end(&mut octets)
            .await;
    }
    if octets.len() > OUTPUT {
        return Err(ExecError::TooLong);
    }
    Ok(octets)
}

/// Reads the beginning of an output, and drops the rest.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let mut octets = buffer(COMPLAINT);
    if let Some(mut stream) = stream {
        let _ = (&mut stream)
            .take(COMPLAINT as u64)
            .read_to_end(&mut octets)
            .await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    octets
}

/// Room for all that will be read: a buffer that grows leaves copies behind.
fn buffer(octets: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(octets + SPARE))
}

/// Room that the reader asks for beyond the last octet, to see the end.
const SPARE: usize = 64;
