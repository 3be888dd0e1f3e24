//! The coordinator's side of a load agent.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    job::{Job, Message, Outcome},
    lab::process::Process,
};

/// Longer than any job takes with the slowest subject.
const PATIENCE: Duration = Duration::from_mins(3);

/// A running agent.
pub(crate) struct Load {
    _process: Process,
    stdin: ChildStdin,
    messages: Receiver<Message>,
}

impl Load {
    /// Starts an agent by `command` and waits until it is ready.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log_file = std::fs::File::create(log)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file);
        let mut child = command.spawn().context("cannot start the load agent")?;
        let stdin = child.stdin.take().context("no pipe to the load agent")?;
        let stdout = child.stdout.take().context("no pipe from the load agent")?;
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line)
                    .unwrap_or_else(|_| Message::Failed(format!("not a message: {line}")));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut load = Self {
            _process: Process::adopt(child),
            stdin,
            messages,
        };
        match load
            .message()
            .with_context(|| format!("see {}", log.display()))?
        {
            Message::Ready => Ok(load),
            _ => bail!("the load agent is not ready; see {}", log.display()),
        }
    }

    /// Does one job; `begin` is called when the measured window opens, `end` when it closes.
    pub(crate) fn perform<B>(
        &mut self,
        job: &Job,
        begin: impl FnOnce() -> Result<B>,
    ) -> Result<(B, Outcome)> {
        self.send(&serde_json::to_string(job)?)?;
        match self.message()? {
            Message::Begin => {}
            Message::Failed(error) => bail!("{error}"),
            _ => bail!("the load agent is out of step"),
        }
        let noted = begin()?;
        match self.message()? {
            Message::Done(outcome) => Ok((noted, outcome)),
            Message::Failed(error) => bail!("{error}"),
            _ => bail!("the load agent is out of step"),
        }
    }

    /// Lets the agent drop the connections that it holds.
    pub(crate) fn release(&mut self) -> Result<()> {
        self.send("")
    }

    fn send(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("the load agent is gone")
    }

    fn message(&mut self) -> Result<Message> {
        self.messages
            .recv_timeout(PATIENCE)
            .context("the load agent is silent or gone")
    }
}
