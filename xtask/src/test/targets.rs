//! Which test targets make up a tier.
//!
//! Tests beside the code belong to the tier `unit`, but for the daemon's: these
//! proxy in process, over loopback. An integration test that is named after a
//! tier (`datapath`, `datapath_git`) belongs to it, any other to the tier of its
//! package.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Tier;
use crate::workspace;

/// An integration test of a package, or a package whose own tests are meant.
pub(super) struct Target {
    package: String,
    test: Option<String>,
}

impl Target {
    /// Cargo's arguments that choose it.
    pub(super) fn selection(&self) -> Vec<String> {
        let mut words = vec!["--package".to_owned(), self.package.clone()];
        if let Some(test) = &self.test {
            words.extend(["--test".to_owned(), test.clone()]);
        }
        words
    }
}

/// The targets of a tier, as cargo knows them.
pub(super) fn of(tier: Tier) -> Result<Vec<Target>> {
    let metadata = metadata()?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata lists no packages")?;
    let mut targets = Vec::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("a package without a name")?;
        if tier == tier_beside_the_code(name) {
            targets.push(Target {
                package: name.to_owned(),
                test: None,
            });
        }
        let tests = integration_tests(package).filter(|test| tier_of(name, test) == tier);
        targets.extend(tests.map(|test| Target {
            package: name.to_owned(),
            test: Some(test.into()),
        }));
    }
    Ok(targets)
}

fn integration_tests(package: &Value) -> impl Iterator<Item = &str> {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets
        .filter(|target| {
            target["kind"]
                .as_array()
                .is_some_and(|kinds| kinds.contains(&"test".into()))
        })
        .filter_map(|target| target["name"].as_str())
}

fn tier_beside_the_code(package: &str) -> Tier {
    match package {
        "ersatz-daemon" => Tier::Proxy,
        _ => Tier::Unit,
    }
}

fn tier_of(package: &str, test: &str) -> Tier {
    match (test.split('_').next().unwrap_or(test), package) {
        ("agents", _) => Tier::Agents,
        ("datapath", _) => Tier::Datapath,
        ("proxy", _) | (_, "ersatz-daemon") => Tier::Proxy,
        (_, "ersatz" | "ersatz-steering" | "ersatz-tests") => Tier::Datapath,
        _ => Tier::Unit,
    }
}

fn metadata() -> Result<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let output = cargo
        .current_dir(workspace::root())
        .output()
        .context("cannot start cargo")?;
    serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_belongs_to_the_tier_it_is_named_after() {
        assert_eq!(tier_of("ersatz-daemon", "datapath_restart"), Tier::Datapath);
        assert_eq!(tier_of("ersatz-tests", "agents"), Tier::Agents);
        assert_eq!(tier_of("ersatz-policy", "matching"), Tier::Unit);
        assert_eq!(tier_of("ersatz", "terminal"), Tier::Datapath);
    }
}
