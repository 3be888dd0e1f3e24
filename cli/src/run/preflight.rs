//! What must be given before anything is tried, so that the error is a clear one.

use anyhow::{Context, bail};
use rustix::thread::{CapabilitySet, capabilities};

/// Capabilities that the making of a sandbox uses, by the names that people know.
const NEEDED: &[(CapabilitySet, &str)] = &[
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
];

/// Fails when this process has not the rights that a sandbox takes.
pub(super) fn check() -> anyhow::Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::Uid::effective().is_root() {
        bail!(
            "making a sandbox needs root: run it as `sudo --preserve-env=NAME,… ersatz run …`, \
             with the variables that the policy reads; the command itself will run as you"
        );
    }
    bail!(
        "root lacks {} here (a container?): a sandbox cannot be made",
        missing.join(", ")
    );
}

/// The needed capabilities that this process has not.
pub(crate) fn missing() -> anyhow::Result<Vec<&'static str>> {
    let has = capabilities(None)
        .context("cannot read this process's capabilities")?
        .effective;
    Ok(NEEDED
        .iter()
        .filter(|(one, _)| !has.contains(*one))
        .map(|(_, name)| *name)
        .collect())
}
