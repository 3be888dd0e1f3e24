//! ersatz as a user runs it: `ersatzd` with a directory of resources, the load
//! in a sandbox that `ersatz run` makes and the kernel steers.

use std::{fmt::Write as _, fs, path::Path, process::Command, thread};

use anyhow::{Context, Result};

use super::{Kind, Programs, SETTLE, START};
use crate::{
    HOST,
    lab::{
        Lab, UPSTREAM,
        process::{self, Core, Process},
    },
};

const SOCKET: &str = "/run/ersatz/ersatzd.sock";

/// Rules of the larger policy.
const MANY: usize = 1_000;

pub(super) fn start(lab: &Lab, programs: &Programs) -> Result<Process> {
    let config = lab.dir().join("ersatz");
    fs::create_dir_all(&config)?;
    fs::write(config.join("bench.yaml"), resources(lab.dir()))?;
    let _ = fs::remove_file(SOCKET);
    let mut command = process::pinned(Core::Proxy, &programs.ours.join("ersatzd"));
    command.arg("--config").arg(config);
    let process = Process::start(command, &lab.log("ersatz"))?;
    process::wait_for_file(Path::new(SOCKET), START)
        .with_context(|| format!("see {}", lab.log("ersatz").display()))?;
    thread::sleep(SETTLE);
    Ok(process)
}

/// The load agent in a sandbox.
pub(super) fn agent(kind: Kind, programs: &Programs) -> Result<Command> {
    let policy = if kind == Kind::Rules { "many" } else { "few" };
    let mut command = process::pinned(Core::Load, &programs.ours.join("ersatz"));
    command.args(["run", "--policy", policy, "--name", policy, "--"]);
    command.arg(process::itself()?).arg("agent");
    Ok(command)
}

fn resources(dir: &Path) -> String {
    let dir = dir.display();
    let mut text = format!(
        "apiVersion: ersatz.dev/v1alpha1
kind: Credential
metadata: {{name: bench}}
spec:
  from: {{file: {{path: {dir}/secret}}}}
  stub: {{env: BENCH_TOKEN, shape: \"stub_[A-Za-z0-9]{{33}}\"}}
  use:
  - {{hosts: [{HOST}], in: [{{header: authorization}}]}}
---
apiVersion: ersatz.dev/v1alpha1
kind: NodeConfig
metadata: {{name: node}}
spec:
  upstream:
    roots: {{public: false, files: [{dir}/ca.pem]}}
    resolvers: [{UPSTREAM}]
    allowPrivate: [10.77.0.0/16]
  audit: {{file: {dir}/audit.jsonl}}
"
    );
    for (name, rules) in [("few", 2), ("many", MANY)] {
        let _ = write!(
            text,
            "---
apiVersion: ersatz.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: {name}}}
spec:
  credentials: [bench]
  allow:
"
        );
        for rule in 2..rules {
            let _ = writeln!(
                text,
                "  - {{hosts: [host-{rule}.example.com], http: [{{methods: [GET], paths: [\"/v{rule}/**\"]}}]}}"
            );
        }
        let _ = writeln!(
            text,
            "  - {{hosts: [{HOST}], http: [{{methods: [GET, POST], paths: [\"/**\"]}}]}}"
        );
        let _ = writeln!(text, "  - {{hosts: [\"*.bench.test\"]}}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resources_are_valid_and_have_two_and_a_thousand_rules() {
        let text = resources(Path::new("/run/bench"));
        let parsed = ersatz_api::Resources::parse("bench.yaml", &text).expect("valid resources");
        let rules = |policy| parsed.policy_spec(policy).map(|spec| spec.allow.len());
        assert_eq!((rules("few"), rules("many")), (Some(2), Some(MANY)));
        parsed.node().expect("a valid node");
    }
}
