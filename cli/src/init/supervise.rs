//! Process 1 at work: it reaps, carries out orders, and ends with the command.

use std::{io, os::fd::AsFd};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};
use rustix::event::{PollFd, PollFlags, poll};

use super::{FromInit, InitError, ToInit, command::Supervised, control::Control};
use crate::exit;

/// Waits for the command's end; with this process all others of the sandbox end.
///
/// When `ersatz run` is gone this returns as well, with an error that nobody reads.
pub(super) fn until_end(control: &mut Control, command: Supervised) -> Result<(), InitError> {
    let children = children().map_err(|error| InitError::Control(error.into()))?;
    let mut state = State {
        command,
        terminal: None,
    };
    if state.command.foreground {
        // Without a terminal any more the command runs in the background.
        drop(state.take_foreground());
    }
    // The command may have ended before its end could be waited for.
    if state.reap(control)? {
        return Ok(());
    }
    loop {
        let mut fds = [
            PollFd::new(&children, PollFlags::IN),
            PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.map_err(|error| InitError::Control(error.into()))?,
        };
        let [child, order] = fds.map(|fd| !fd.revents().is_empty());
        if child {
            while let Ok(Some(_)) = children.read_signal() {}
            if state.reap(control)? {
                return Ok(());
            }
        }
        if order {
            state.obey(&control.receive()?);
        }
    }
}

fn children() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

struct State {
    command: Supervised,
    /// The terminal, while the command is its foreground.
    terminal: Option<std::fs::File>,
}

impl State {
    /// Takes every child that changed; true when the command ended.
    fn reap(&mut self, control: &mut Control) -> Result<bool, InitError> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(false),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(InitError::Control(error.into())),
                Ok(status) => status,
            };
            match status {
                WaitStatus::Exited(pid, code) if pid == self.command.pid => {
                    control.send(&FromInit::Ended(u8::try_from(code).unwrap_or(exit::FAILED)))?;
                    return Ok(true);
                }
                WaitStatus::Signaled(pid, signal, _) if pid == self.command.pid => {
                    control.send(&FromInit::Ended(exit::by_signal(signal as i32)))?;
                    return Ok(true);
                }
                WaitStatus::Stopped(pid, signal) if pid == self.command.pid => {
                    self.stopped(signal, control)?;
                }
                _ => {}
            }
        }
    }

    /// A stop for the terminal's sake is over once the command is its foreground.
    fn stopped(&mut self, signal: Signal, control: &mut Control) -> Result<(), InitError> {
        let wants_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if wants_terminal && self.terminal.is_some() && self.take_foreground().is_ok() {
            self.go_on();
            return Ok(());
        }
        self.terminal = None;
        control.send(&FromInit::Stopped(signal as i32))
    }

    fn obey(&mut self, order: &ToInit) {
        match *order {
            ToInit::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    // Gone already: then its end is on the way.
                    let _ = kill(self.command.pid, signal);
                }
            }
            ToInit::Continue { foreground } => {
                if foreground {
                    // Not to be had any more: the command goes on in the background.
                    drop(self.take_foreground());
                }
                self.go_on();
            }
            ToInit::Start(_) => {}
        }
    }

    fn take_foreground(&mut self) -> io::Result<()> {
        let terminal = std::fs::File::open("/dev/tty")?;
        nix::unistd::tcsetpgrp(terminal.as_fd(), self.command.pid)?;
        self.terminal = Some(terminal);
        Ok(())
    }

    fn go_on(&self) {
        let Supervised { pid, own_group, .. } = self.command;
        let _ = if own_group {
            killpg(pid, Signal::SIGCONT)
        } else {
            kill(pid, Signal::SIGCONT)
        };
    }
}
