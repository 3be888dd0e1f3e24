//! A machine for one scenario, with a world beside it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{
    Daemon, Inventory, Records, Running, Secrets, Settings,
    namespace::Namespace,
    process::{Finished, wait_until},
};
use crate::world::{
    Config,
    names::{self, LINK_NODE_V4, LINK_NODE_V6, LINK_WORLD_V4, LINK_WORLD_V6},
};

/// How long anything may take to be there.
const START: Duration = Duration::from_secs(20);
/// How long a command in a sandbox may run unless a scenario says otherwise.
const RUN: Duration = Duration::from_mins(2);

/// Where a sandbox's commands are looked for.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The node, the world and what they share: a directory of this scenario.
///
/// The fields are dropped in their order: servers end before their namespaces.
pub struct Node {
    _world: Running,
    outside: Namespace,
    inside: Namespace,
    directory: TempDir,
    secrets: Secrets,
    settings: Settings,
}

impl Node {
    /// A node with the usual settings.
    pub fn new() -> Result<Self> {
        Self::with(Settings::default())
    }

    /// A node with settings of its own; the daemon is not started.
    pub fn with(settings: Settings) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("ersatz-test-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let secrets = Secrets::new();
        let (inside, outside) = (Namespace::new()?, Namespace::new()?);
        join(&inside, &outside)?;
        let world = start_world(&outside, directory.path(), &secrets)?;
        fs::copy(
            world_directory(directory.path()).join("ca.pem"),
            directory.path().join("ca.pem"),
        )?;
        let node = Self {
            _world: world,
            outside,
            inside,
            directory,
            secrets,
            settings,
        };
        node.write_config(&node.settings)?;
        Ok(node)
    }

    /// Where this scenario's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the world's files are: its ledger, its repositories. No sandbox can look in.
    pub fn world_directory(&self) -> PathBuf {
        world_directory(self.directory())
    }

    /// The real secrets, which the sandbox must never see.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Writes the resources that the daemon reads, each file replaced at once.
    pub fn write_config(&self, settings: &Settings) -> Result<()> {
        settings.write(self.directory(), &self.secrets)
    }

    /// Replaces a credential's real value, as an operator does.
    pub fn write_secret(&self, name: &str, value: &str) -> Result<()> {
        super::policy::replace(&self.directory().join("secrets").join(name), value)
    }

    /// Starts `ersatzd` and waits until it takes sandboxes.
    pub fn daemon(&self) -> Result<Daemon<'_>> {
        Daemon::start(self)
    }

    /// A command on the node itself, outside of any sandbox.
    pub fn command(&self, program: &str) -> Command {
        self.inside.command(program)
    }

    /// A command in the world.
    pub fn world_command(&self, program: &str) -> Command {
        self.outside.command(program)
    }

    /// `ersatz run` with the policy of the daemon that serves the node.
    pub fn sandboxed(&self, command: &[&str]) -> Command {
        self.ersatz_run(&["--policy", "agents"], command)
    }

    /// `ersatz run` with these options.
    pub fn ersatz_run(&self, options: &[&str], command: &[&str]) -> Command {
        self.ersatz_run_with(&[], options, command)
    }

    /// `ersatz run` with these options and variables, and no others of the tests' own.
    pub fn ersatz_run_with(
        &self,
        variables: &[(&str, &str)],
        options: &[&str],
        command: &[&str],
    ) -> Command {
        let mut run = self.command("env");
        run.args(["-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", PATH]);
        run.args(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        run.arg(tool("ersatz")).arg("run");
        run.args(options).arg("--").args(command);
        run.current_dir("/");
        run
    }

    /// Runs a command in a sandbox of the daemon's and waits for its end.
    pub fn run(&self, command: &[&str]) -> Result<Finished> {
        Running::start(self.sandboxed(command))?.finish(RUN)
    }

    /// Runs a shell script in a sandbox of the daemon's and waits for its end.
    pub fn shell(&self, script: &str) -> Result<Finished> {
        self.run(&["sh", "-c", script])
    }

    /// Records of the audit log so far.
    pub fn audit(&self) -> Result<Records> {
        Records::read(&self.audit_file())
    }

    /// Waits for an audit record; they are written some milliseconds later.
    pub fn audit_with(
        &self,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value> {
        wait_until(Duration::from_secs(5), || {
            self.audit().ok()?.into_iter().find(|record| wanted(record))
        })
        .with_context(|| {
            let records = self
                .audit()
                .map(|records| records.to_string())
                .unwrap_or_default();
            format!("no such audit record among:\n{records}")
        })
    }

    /// Records of the world's ledger so far.
    pub fn ledger(&self) -> Result<Records> {
        Records::read(&self.world_directory().join("ledger.jsonl"))
    }

    /// Where the daemon writes its audit log.
    pub fn audit_file(&self) -> PathBuf {
        self.directory().join("audit.jsonl")
    }

    /// A path of the node's own mount namespace, as this process can open it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.inside.pid()))
    }

    /// Starts to write down every frame in the world, into a file that is returned.
    pub fn witness(&self) -> Result<(Running, PathBuf)> {
        let output = self.directory().join("frames.txt");
        let mut witness = self.world_command(&path_text(&tool("ersatz-world")));
        witness.arg("witness").arg(&output);
        let running = Running::start(witness)?;
        wait_until(START, || output.exists().then_some(()))?;
        Ok((running, output))
    }

    /// Everything on the node that a product could leave behind.
    pub fn inventory(&self) -> Result<Inventory> {
        Inventory::take(self)
    }
}

fn world_directory(directory: &Path) -> PathBuf {
    directory.join("world")
}

/// A user that nothing else here runs as.
const NOBODYS: u32 = 65_533;

/// A program of this workspace, as it was built for these tests.
pub fn tool(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("ERSATZ_TEST_BIN") {
        return PathBuf::from(directory).join(name);
    }
    let own = std::env::current_exe().unwrap_or_default();
    let is_build_directory = |directory: &&Path| directory.join(name).is_file();
    own.ancestors()
        .find(is_build_directory)
        .unwrap_or(Path::new(""))
        .join(name)
}

/// The Python that has the clients of `tests/requirements.txt`.
pub fn python() -> String {
    let python = match std::env::var_os("ERSATZ_TEST_VENV") {
        Some(venv) => PathBuf::from(venv).join("bin/python"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/python"),
    };
    assert!(
        python.is_file(),
        "no Python clients; run: cargo xtask setup"
    );
    path_text(&python)
}

/// A path as an argument; those of this rig are all text.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The link between node and world, and the routes to the world's prefixes.
fn join(node: &Namespace, world: &Namespace) -> Result<()> {
    // Only the network is entered: `netns PID` speaks of this process namespace.
    let mut link = Command::new("nsenter");
    link.arg(format!("--target={}", node.pid()))
        .args(["--net", "ip", "link", "add", "node0"]);
    link.args(["type", "veth", "peer", "name", "world0", "netns"])
        .arg(world.pid().to_string());
    let output = link.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    world.shell(&format!(
        "ip addr add {LINK_WORLD_V4}/30 dev world0
         ip addr add {LINK_WORLD_V6}/64 dev world0 nodad
         ip link set world0 addrgenmode none up
         ip route add local {} dev lo
         ip -6 route add local {} dev lo",
        names::PREFIX_V4,
        names::PREFIX_V6
    ))?;
    node.shell(&format!(
        "ip addr add {LINK_NODE_V4}/30 dev node0
         ip addr add {LINK_NODE_V6}/64 dev node0 nodad
         ip link set node0 addrgenmode none up
         ip route add {} via {LINK_WORLD_V4}
         ip -6 route add {} via {LINK_WORLD_V6}",
        names::PREFIX_V4,
        names::PREFIX_V6
    ))
}

fn start_world(outside: &Namespace, directory: &Path, secrets: &Secrets) -> Result<Running> {
    let directory = &world_directory(directory);
    // Nobody in a sandbox can look in: not even its root, who has no right to.
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    chown(directory, Some(NOBODYS), Some(NOBODYS))?;
    let config = Config {
        directory: directory.clone(),
        accept: secrets.accepted(),
    };
    let file = directory.join("config.json");
    fs::write(&file, serde_json::to_vec(&config)?)?;
    let program = tool("ersatz-world");
    ensure!(
        program.is_file(),
        "{} is not built: run cargo xtask build",
        program.display()
    );
    let mut command = outside.command("sh");
    command.args(["-c", "ulimit -n 16000; exec \"$@\"", "sh"]);
    command.arg(&program).arg("serve").arg(file);
    let mut world = Running::start(command)?;
    let ready = wait_until(START, || {
        // Its authority is written before its sockets listen; the name server is the last.
        let listens = outside.shell("ss -Hltn sport = :53 | grep -q .").is_ok();
        (listens || !world.is_alive()).then_some(listens)
    })?;
    if !ready {
        let ended = world.finish(START)?;
        anyhow::bail!("the world ended: {}", ended.stderr);
    }
    Ok(world)
}
