//! Programs that run inside a namespace.

use std::{
    io::Write as _,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::namespace;

/// A program that came to its end.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Wants the program to have succeeded, and gives what it printed.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status.success(),
            "{}\nstdout: {}\nstderr: {}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// A program that is running; it is killed when this is dropped.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command; its output is kept.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
        })
    }

    /// The program's process, as the machine numbers it, once it was started
    /// by the one that enters the namespace.
    pub fn pid(&self) -> Result<u32> {
        wait_until(Duration::from_secs(10), || {
            namespace::only_child(self.child.id()).ok()
        })
    }

    /// Gives the program its whole standard input.
    pub fn feed(&mut self, input: &[u8]) -> Result<()> {
        let mut stdin = self.stdin.take().context("its input was closed already")?;
        stdin.write_all(input)?;
        Ok(())
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()?)?);
        Ok(nix::sys::signal::kill(pid, signal)?)
    }

    /// Whether it runs still.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end, closing the program's input; one that takes longer is killed.
    pub fn finish(mut self, patience: Duration) -> Result<Finished> {
        drop(self.stdin.take());
        let ended = wait_until(patience, || self.child.try_wait().transpose());
        let Ok(status) = ended else {
            self.end();
            let (stdout, stderr) = self.output();
            bail!("still running after {patience:?}\nstdout: {stdout}\nstderr: {stderr}");
        };
        let status = status?;
        let (stdout, stderr) = self.output();
        Ok(Finished {
            status,
            stdout,
            stderr,
        })
    }

    fn output(&mut self) -> (String, String) {
        let text = |reader: Option<JoinHandle<String>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        (text(self.stdout.take()), text(self.stderr.take()))
    }

    fn end(&mut self) {
        if let Ok(pid) = namespace::only_child(self.child.id())
            && let Ok(pid) = i32::try_from(pid)
        {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.by_ref().read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Looks again and again until there is something, or patience ends.
pub fn wait_until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(started.elapsed() < patience, "nothing within {patience:?}");
        std::thread::sleep(LOOK);
    }
}

/// Between two looks at something that gives no event.
const LOOK: Duration = Duration::from_millis(5);
