//! The caller's terminal: a real one, with its keys, its size and its job control.

use std::{
    fs::{self, File},
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    Test,
    launcher::{SECRET, Sandbox},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_command_has_the_terminal", the_command_has_the_terminal),
    ("interrupt_is_the_commands", interrupt_is_the_commands),
    (
        "suspends_and_goes_on_as_one_job",
        suspends_and_goes_on_as_one_job,
    ),
    (
        "a_shell_in_the_sandbox_has_job_control",
        a_shell_in_the_sandbox_has_job_control,
    ),
    ("a_new_size_arrives", a_new_size_arrives),
    (
        "a_pipeline_keeps_its_terminal",
        a_pipeline_keeps_its_terminal,
    ),
    (
        "a_killed_command_leaves_the_terminal_usable",
        a_killed_command_leaves_the_terminal_usable,
    ),
];

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with a sandbox on it.
struct Terminal {
    keys: File,
    child: Child,
    output: Receiver<u8>,
    seen: String,
}

impl Terminal {
    /// Starts the launcher as the leader of a session on a terminal of its own.
    fn start(command: &[&str]) -> Result<Terminal, Failed> {
        let line = Sandbox::new().line(command);
        Terminal::on(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts any program so.
    fn on(program: &[&str]) -> Result<Terminal, Failed> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, size(31, 97))?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(open(ptsname(&master, Vec::new())?, flags, Mode::empty())?);
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .args(program)
            .env("TERM", "xterm")
            .env("REAL_TOKEN", SECRET)
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave))
            .spawn()?;
        let keys = File::from(master);
        let (sender, output) = channel();
        let mut screen = keys.try_clone()?;
        thread::spawn(move || {
            let mut byte = [0];
            while screen.read(&mut byte).is_ok_and(|count| count > 0)
                && sender.send(byte[0]).is_ok()
            {}
        });
        Ok(Terminal {
            keys,
            child,
            output,
            seen: String::new(),
        })
    }

    /// Waits until `text` appears, and forgets what came before.
    fn expect(&mut self, text: &str) -> Result<(), Failed> {
        let start = Instant::now();
        while !self.seen.contains(text) {
            match self
                .output
                .recv_timeout(PATIENCE.saturating_sub(start.elapsed()))
            {
                Ok(byte) => self.seen.push(char::from(byte)),
                Err(_) => return Err(format!("{text:?} did not come, but {:?}", self.seen).into()),
            }
        }
        self.seen.clear();
        Ok(())
    }

    fn press(&mut self, keys: &str) -> Result<(), Failed> {
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    fn code(mut self) -> Result<Option<i32>, Failed> {
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already ended when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn the_command_has_the_terminal() -> Result<(), Failed> {
    let script =
        "test -t 0 && test -t 1 && test -t 2 && echo all; tty; stty size; echo end > /dev/tty";
    let mut terminal = Terminal::start(&["bash", "-c", script])?;
    terminal.expect("all\r\n/dev/console\r\n31 97\r\nend\r\n")?;
    assert_eq!(terminal.code()?, Some(0));
    Ok(())
}

fn interrupt_is_the_commands() -> Result<(), Failed> {
    let script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&["bash", "-c", script])?;
    terminal.expect("ready")?;
    terminal.press("\x03")?;
    terminal.expect("interrupted")?;
    assert_eq!(terminal.code()?, Some(5));

    let mut terminal = Terminal::start(&["bash", "-c", "echo ready; exec sleep 60"])?;
    terminal.expect("ready")?;
    terminal.press("\x03")?;
    assert_eq!(terminal.code()?, Some(130));
    Ok(())
}

/// Says when it runs, also again after a stop, and reads a line.
const READER: &str = "
import signal
def resumed(*_):
    print(\"resumed\", flush=True)
signal.signal(signal.SIGCONT, resumed)
print(\"ready\", flush=True)
print(\"read\", input())";

/// A shell with job control starts the launcher; ^Z brings the shell's prompt back, `fg` the command.
fn suspends_and_goes_on_as_one_job() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (rc, job) = (directory.path().join("rc"), directory.path().join("job"));
    fs::write(
        &rc,
        "PS1='prompt> '\nbind 'set enable-bracketed-paste off'\n",
    )?;
    let line = Sandbox::new().line(&["python3", "-c", READER]).join("' '");
    fs::write(&job, format!("exec '{line}'\n"))?;
    let mut shell = Terminal::on(&["bash", "--rcfile", &rc.to_string_lossy(), "-i"])?;
    shell.expect("prompt> ")?;
    shell.press(&format!("bash {}\r", job.display()))?;
    shell.expect("ready\r\n")?;
    shell.press("\x1a")?;
    shell.expect("Stopped")?;
    shell.expect("prompt> ")?;
    shell.press("echo still $((40+2))\r")?;
    shell.expect("still 42")?;
    shell.expect("prompt> ")?;
    shell.press("fg\r")?;
    shell.expect("resumed")?;
    shell.press("words\r")?;
    shell.expect("read words")?;
    shell.expect("prompt> ")?;
    shell.press("exit 6\r")?;
    assert_eq!(shell.code()?, Some(6));
    Ok(())
}

fn a_shell_in_the_sandbox_has_job_control() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("reader.py");
    fs::write(&script, READER)?;
    let mut terminal = Terminal::start(&["bash", "--norc", "--noediting", "-i"])?;
    terminal.press(&format!("python3 {}\r", script.display()))?;
    terminal.expect("ready\r\n")?;
    terminal.press("\x1a")?;
    terminal.expect("Stopped")?;
    terminal.press("fg\r")?;
    terminal.expect("resumed")?;
    terminal.press("\x03")?;
    terminal.expect("KeyboardInterrupt")?;
    terminal.press("echo back $((1+1)); exit 3\r")?;
    terminal.expect("back 2")?;
    assert_eq!(terminal.code()?, Some(3));
    Ok(())
}

fn a_new_size_arrives() -> Result<(), Failed> {
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&["bash", "-c", script])?;
    terminal.expect("ready")?;
    tcsetwinsize(&terminal.keys, size(50, 120))?;
    terminal.expect("50 120")?;
    assert_eq!(terminal.code()?, Some(0));
    Ok(())
}

/// In a pipeline the terminal is the neighbours' too: one of them reads from it.
fn a_pipeline_keeps_its_terminal() -> Result<(), Failed> {
    let line = Sandbox::new()
        .line(&["echo", "from the sandbox"])
        .join("' '");
    let script = format!("'{line}' | {{ read x; echo got $x; read y </dev/tty; echo typed $y; }}");
    let mut terminal = Terminal::on(&["bash", "-c", &script])?;
    terminal.expect("got from the sandbox")?;
    terminal.press("keys\r")?;
    terminal.expect("typed keys")?;
    assert_eq!(terminal.code()?, Some(0));
    Ok(())
}

fn a_killed_command_leaves_the_terminal_usable() -> Result<(), Failed> {
    let mut terminal =
        Terminal::start(&["bash", "-c", "stty raw -echo; echo ready; kill -KILL $$"])?;
    terminal.expect("ready")?;
    terminal.child.wait()?;
    let settings = rustix::termios::tcgetattr(&terminal.keys)?;
    assert!(
        settings
            .local_modes
            .contains(rustix::termios::LocalModes::ECHO)
    );
    Ok(())
}
