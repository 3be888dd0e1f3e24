//! Exit codes, signals, descriptors and ends.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Test, launcher::Sandbox};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("ends_with_the_commands_code", ends_with_the_commands_code),
    (
        "passes_bytes_through_untouched",
        passes_bytes_through_untouched,
    ),
    ("passes_signals_on", passes_signals_on),
    ("sees_no_process_but_its_own", sees_no_process_but_its_own),
    (
        "ends_all_that_the_command_left_running",
        ends_all_that_the_command_left_running,
    ),
    ("dies_with_its_launcher", dies_with_its_launcher),
    (
        "a_killed_init_is_an_error_of_ours",
        a_killed_init_is_an_error_of_ours,
    ),
];

/// Long enough for a loaded machine, short enough to notice that something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn ends_with_the_commands_code() -> Result<(), Failed> {
    for (command, code) in [
        (&["true"][..], 0),
        (&["bash", "-c", "exit 7"], 7),
        (&["bash", "-c", "kill -KILL $$"], 137),
        (&["bash", "-c", "kill -TERM $$"], 143),
        (&["/etc/passwd"], 126),
        (&["/"], 126),
        (&["no-such-command"], 127),
        (&["/no/such/command"], 127),
    ] {
        let ended = Sandbox::new().run(command);
        assert_eq!(ended.code, code, "{command:?}: {ended:?}");
    }
    let ended = Sandbox::new()
        .option("-f /no/such/policy.yaml")
        .run(&["true"]);
    assert_eq!(ended.code, 125, "{ended:?}");
    assert!(
        ended.stderr.starts_with("ersatz: /no/such/policy.yaml"),
        "{ended:?}"
    );
    Ok(())
}

fn passes_bytes_through_untouched() -> Result<(), Failed> {
    let bytes: Vec<u8> = (0..1_u32 << 20)
        .map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let output = Sandbox::new().feed(&["cat"], &bytes);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == bytes,
        "{} bytes came back",
        output.stdout.len()
    );
    Ok(())
}

fn passes_signals_on() -> Result<(), Failed> {
    for signal in ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "WINCH"] {
        let script =
            format!("trap 'echo got; exit 9' {signal}; echo ready; while :; do sleep 0.05; done");
        let mut child = Sandbox::new().start(&["bash", "-c", &script]);
        let mut lines = lines(&mut child);
        assert_eq!(lines.next().transpose()?.as_deref(), Some("ready"));
        let number: Signal = format!("SIG{signal}").parse()?;
        kill(pid(&child)?, number)?;
        assert_eq!(
            lines.next().transpose()?.as_deref(),
            Some("got"),
            "{signal}"
        );
        assert_eq!(child.wait()?.code(), Some(9), "{signal}");
    }
    Ok(())
}

fn sees_no_process_but_its_own() -> Result<(), Failed> {
    let seen = Sandbox::new().shell("echo /proc/[0-9]*; cat /proc/1/comm");
    assert_eq!(seen.lines().next(), Some("/proc/1 /proc/2"), "{seen}");
    Ok(())
}

fn ends_all_that_the_command_left_running() -> Result<(), Failed> {
    let marker = "31.4159271";
    let ended = Sandbox::new().run(&[
        "bash",
        "-c",
        &format!("(setsid sleep {marker} >/dev/null 2>&1 &); exit 4"),
    ]);
    assert_eq!(ended.code, 4, "{ended:?}");
    until("the background process is gone", || !is_running(marker))
}

fn dies_with_its_launcher() -> Result<(), Failed> {
    let marker = "31.4159272";
    let script = format!("echo ready; setsid sleep {marker} & exec sleep {marker}");
    let mut child = Sandbox::new().start(&["bash", "-c", &script]);
    assert_eq!(
        lines(&mut child).next().transpose()?.as_deref(),
        Some("ready")
    );
    until("the command runs", || is_running(marker))?;
    child.kill()?;
    child.wait()?;
    until("nothing of the sandbox is left", || !is_running(marker))
}

fn a_killed_init_is_an_error_of_ours() -> Result<(), Failed> {
    let mut child = Sandbox::new().start(&["bash", "-c", "echo ready; exec sleep 60"]);
    assert_eq!(
        lines(&mut child).next().transpose()?.as_deref(),
        Some("ready")
    );
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
    let init: i32 = match children.split_whitespace().next() {
        Some(number) => number.parse()?,
        None => child_of_any_thread(child.id())?,
    };
    kill(Pid::from_raw(init), Signal::SIGKILL)?;
    assert_eq!(child.wait()?.code(), Some(125));
    Ok(())
}

/// The init is a child of the thread that launched it.
fn child_of_any_thread(process: u32) -> Result<i32, Failed> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        if let Some(number) = children.split_whitespace().next() {
            return Ok(number.parse()?);
        }
    }
    Err("the launcher has no child".into())
}

fn lines(child: &mut Child) -> impl Iterator<Item = std::io::Result<String>> + use<> {
    BufReader::new(child.stdout.take().expect("piped")).lines()
}

fn pid(child: &Child) -> Result<Pid, Failed> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// Whether a `sleep` of just this length runs anywhere.
fn is_running(marker: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| line == format!("sleep\0{marker}\0").as_bytes())
}

fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), Failed> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > PATIENCE {
            return Err(format!("not in time: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
