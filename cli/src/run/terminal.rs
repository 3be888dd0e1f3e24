//! The caller's terminal: passed through as it is, with job control kept whole.
//!
//! An interactive command gets a process group of its own in the caller's
//! session, made the terminal's foreground, so that ^C and ^Z are its own; when
//! it stops, we give the terminal back and stop as well, and the caller's shell
//! sees one job. A command in a pipeline stays in the pipeline's group, for the
//! terminal is its neighbours' too. Typing into the terminal is prevented by the
//! system call filter (see `init::seccomp`).

use std::{
    ffi::OsString,
    fs::File,
    io::{IsTerminal, stderr, stdin, stdout},
    os::unix::ffi::OsStringExt,
};

use rustix::{
    process::Pid,
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp, ttyname},
};

/// The terminal that controls this process, if any.
pub(super) struct Terminal {
    controlling: Option<File>,
    /// None where the group was made outside of this process namespace (`nsenter`):
    /// the kernel then shows it as 0, which is no group that can be named.
    own: Option<Pid>,
    in_pipeline: bool,
    settings: Option<Termios>,
    was_foreground: bool,
}

impl Terminal {
    /// Looks at the terminal as it is before the command has it.
    pub(super) fn of_this_process() -> Terminal {
        let controlling = File::options().read(true).write(true).open("/dev/tty").ok();
        let in_pipeline =
            controlling.is_some() && !(stdin().is_terminal() && stdout().is_terminal());
        let settings = controlling.as_ref().and_then(|tty| tcgetattr(tty).ok());
        let mut terminal = Terminal {
            controlling,
            own: Pid::from_raw(nix::unistd::getpgrp().as_raw()),
            in_pipeline,
            settings,
            was_foreground: false,
        };
        terminal.was_foreground = terminal.in_foreground();
        terminal
    }

    /// Whether the command gets a process group of its own.
    pub(super) fn wants_own_group(&self) -> bool {
        !self.in_pipeline
    }

    /// Whether this process's group has the terminal.
    pub(super) fn in_foreground(&self) -> bool {
        self.controlling
            .as_ref()
            .is_some_and(|tty| tcgetpgrp(tty).ok() == self.own && self.own.is_some())
    }

    /// The path of the terminal among the standard descriptors.
    pub(super) fn path() -> Option<OsString> {
        let name = |name: std::ffi::CString| OsString::from_vec(name.into_bytes());
        ttyname(stdin(), Vec::new())
            .or_else(|_| ttyname(stdout(), Vec::new()))
            .or_else(|_| ttyname(stderr(), Vec::new()))
            .ok()
            .map(name)
    }

    /// Takes the terminal back from the command's group.
    pub(super) fn take_back(&self) {
        if let (Some(tty), Some(own), true) = (
            &self.controlling,
            self.own,
            self.wants_own_group() && self.was_foreground,
        ) {
            // Not ours any more when the caller's shell was quicker.
            let _ = tcsetpgrp(tty, own);
        }
    }

    /// Takes the terminal back for good; a command that was killed, and so could not set
    /// it back itself, has that done for it.
    pub(super) fn restore(&self, killed: bool) {
        self.take_back();
        if let (Some(tty), Some(settings), true) = (
            &self.controlling,
            &self.settings,
            killed && self.in_foreground(),
        ) {
            let _ = tcsetattr(tty, OptionalActions::Drain, settings);
        }
    }
}
