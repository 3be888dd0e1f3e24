//! `ersatz run` whose sandbox gets a stub and no link at all, and how tests start it.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use clap::Parser;
use ersatz::{
    exit,
    run::{self, Enroller, Enrolment},
};
use ersatz_daemon::{
    control::Refused,
    enrol::{EnrolRequest, Enrolled},
};

/// What the policy's variable holds; it must never be seen in a sandbox.
pub(crate) const SECRET: &str = "ghp_real5f3a9c1e7b2d4f6a8c0e1b3d5f7a9c1e";

/// What the sandbox gets in its place.
pub(crate) const STUB: &str = "ghp_stub0123456789012345678901234567";

/// The argument that makes this binary the launcher.
const ARGUMENT: &str = "__launch";

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/policy.yaml");

#[derive(Parser)]
struct Line {
    _launch: String,
    #[command(flatten)]
    options: run::Options,
}

struct Unlinked;

impl Enroller for Unlinked {
    type Enrolment = Unlinked;

    async fn enrol(self, _: EnrolRequest, _: OwnedFd) -> anyhow::Result<(Unlinked, Enrolled)> {
        let enrolled = Enrolled {
            env: [("GITHUB_TOKEN".to_owned(), STUB.to_owned())].into(),
            stubs: [("github".to_owned(), STUB.to_owned())].into(),
            ca_pem: include_str!("../../testdata/ca.pem").to_owned(),
            resolver: IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
            hidden: Vec::new(),
        };
        Ok((Unlinked, enrolled))
    }
}

impl Enrolment for Unlinked {
    async fn end(self) -> anyhow::Result<Vec<Refused>> {
        Ok(Vec::new())
    }
}

pub(crate) fn is_meant() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == ARGUMENT)
}

pub(crate) fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return exit::failed(&error.into()),
    };
    let files = line.options.files.clone();
    run::with(line.options, &files, Unlinked).unwrap_or_else(|error| exit::failed(&error))
}

/// A sandbox to be started.
pub(crate) struct Sandbox {
    options: Vec<String>,
    environment: Vec<(String, String)>,
    directory: String,
    policy: String,
}

/// How a sandbox ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Sandbox {
        let environment = vec![("REAL_TOKEN".to_owned(), SECRET.to_owned())];
        let (directory, policy) = ("/".to_owned(), POLICY.to_owned());
        Sandbox {
            options: Vec::new(),
            environment,
            directory,
            policy,
        }
    }

    pub(crate) fn option(mut self, words: &str) -> Sandbox {
        self.options
            .extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Sandbox {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn directory(mut self, path: &Path) -> Sandbox {
        self.directory = path.to_string_lossy().into_owned();
        self
    }

    pub(crate) fn policy(mut self, path: &Path) -> Sandbox {
        self.policy = path.to_string_lossy().into_owned();
        self
    }

    /// The launcher's command line for `command`.
    pub(crate) fn line(&self, command: &[&str]) -> Vec<String> {
        let program = std::env::current_exe().expect("this binary has a path");
        let mut line = vec![program.to_string_lossy().into_owned(), ARGUMENT.to_owned()];
        line.extend(["-f".to_owned(), self.policy.clone()]);
        line.extend(self.options.clone());
        line.push("--".to_owned());
        line.extend(command.iter().map(|word| (*word).to_owned()));
        line
    }

    pub(crate) fn command(&self, command: &[&str]) -> Command {
        self.started_by(&[], command)
    }

    /// The launcher, started by another program.
    pub(crate) fn started_by(&self, by: &[&str], command: &[&str]) -> Command {
        let mut line = by
            .iter()
            .map(|word| (*word).to_owned())
            .chain(self.line(command));
        let mut launcher = Command::new(line.next().expect("at least the program"));
        launcher
            .args(line)
            .current_dir(&self.directory)
            .envs(self.environment.clone());
        launcher
    }

    /// Runs a command to its end, with `input` as its standard input.
    pub(crate) fn feed(&self, command: &[&str], input: &[u8]) -> std::process::Output {
        let mut child = self
            .command(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the launcher starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ends");
        // A command that does not read its input is no failure here.
        drop(writer.join());
        output
    }

    pub(crate) fn run(&self, command: &[&str]) -> Ended {
        let output = self.feed(command, b"");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output
            .status
            .code()
            .or(output.status.signal().map(|signal| -signal));
        Ended {
            code: code.expect("one of the two"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs a shell script, which must succeed, and gives what it printed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let ended = self.run(&["bash", "-c", script]);
        assert_eq!(ended.code, 0, "{script}: {ended:?}");
        ended.stdout
    }

    /// Starts a command whose standard output is read while it runs.
    pub(crate) fn start(&self, command: &[&str]) -> Child {
        self.command(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the launcher starts")
    }
}
