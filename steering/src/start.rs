//! Starting an instance, taking one over, and ending it.
//!
//! The order of a start: maps, then own listeners, then the gate's programs,
//! then those of the sandboxes, and the sockets last. What an earlier process
//! served stays silent until it is enrolled again.

use ersatz_ebpf_common::flags;
use tracing::{info, warn};

use crate::{
    Close, InstanceName, Listeners, Options, SandboxId, SteeringError,
    drops::Drops,
    gate::Gate,
    instance::Instance,
    kept::Keeper,
    link::Netlink,
    mount,
    programs::Programs,
    record::Record,
    steering::{Inner, Parts},
    table::Table,
};

/// Brings an instance up.
pub(crate) fn start(options: &Options) -> Result<(Inner, Listeners), SteeringError> {
    new_enough()?;
    for dead in Instance::dead_runs(&options.state_dir) {
        let name = dead.name();
        match uninstall(dead) {
            Ok(()) => info!(instance = %name, "removed the remains of a dead instance"),
            Err(error) => warn!(instance = %name, %error, "could not remove a dead instance"),
        }
    }
    let instance = Instance::lock(&options.state_dir, options.instance)?;
    match bring_up(&instance) {
        Ok((parts, listeners)) => Ok((Inner::new(instance, parts), listeners)),
        Err(error) => {
            // What an `ersatzd` leaves is the next one's to take over.
            if instance.name() != InstanceName::node()
                && let Err(error) = uninstall(instance)
            {
                warn!(%error, "could not undo a failed start");
            }
            Err(error)
        }
    }
}

fn bring_up(instance: &Instance) -> Result<(Parts, Listeners), SteeringError> {
    mount::bpffs(&instance.bpf())?;
    let keeper = Keeper::open(&instance.bpf().join("kept"))?;
    let gate = Gate::open(instance)?;
    let mut programs = Programs::load(instance, gate.ifindex)?;
    let drops = Drops::open(&programs.map_pin("DROPS"))?;
    let listeners = Listeners::make(&gate.namespace)?;
    let table = take_over(&mut programs, instance, &gate)?;
    programs.listen(&listeners)?;
    programs.seal()?;
    let parts = Parts {
        gate,
        programs,
        keeper,
        drops,
        table,
    };
    Ok((parts, listeners))
}

/// Ends an instance as the daemon wishes.
pub(crate) fn close(inner: &Inner, what: Close) -> Result<(), SteeringError> {
    let mut programs = inner.programs();
    programs.deafen();
    programs.release();
    if what == Close::Keep {
        return Ok(());
    }
    inner.take_instance().map_or(Ok(()), uninstall)
}

/// Removes everything that an instance made. Its own links go before the pins
/// that keep them shut.
fn uninstall(instance: Instance) -> Result<(), SteeringError> {
    let netlink = Netlink::open()?;
    let prefix = instance.name().sandbox_link_prefix();
    for (name, index) in netlink.links()? {
        if name.starts_with(&prefix) {
            netlink.delete(index)?;
        }
    }
    Gate::remove(&instance)?;
    mount::unmount(&instance.bpf())?;
    instance.remove()
}

/// Attaches this process's programs, and finds out what of the last one lives.
fn take_over(
    programs: &mut Programs,
    instance: &Instance,
    gate: &Gate,
) -> Result<Table, SteeringError> {
    let mut records = Vec::new();
    for (slot, record) in (0..).zip(programs.all()?) {
        let mut record = record;
        record.flags &= !flags::ADMITTED;
        programs.sandboxes.set(slot, Record(record), 0)?;
        records.push(record);
    }
    let link = instance.name().gate_link();
    programs.attach_gate(&gate.namespace, &link)?;
    programs.refresh_sandboxes()?;
    let mut table = Table::new(records);
    for (id, record, _) in table.live() {
        if !programs.attached(record.ifindex) {
            bury(programs, &mut table, id, record.ifindex)?;
        }
    }
    sweep(programs, instance, &table)?;
    Ok(table)
}

/// Frees the slot of a sandbox that ended while no daemon was there.
fn bury(
    programs: &mut Programs,
    table: &mut Table,
    id: SandboxId,
    ifindex: u32,
) -> Result<(), SteeringError> {
    programs.forget(ifindex);
    programs.erase(id, ifindex)?;
    table.release(id);
    Ok(())
}

/// Deletes links of ours that no record knows: a process died while it made them.
fn sweep(programs: &mut Programs, instance: &Instance, table: &Table) -> Result<(), SteeringError> {
    let netlink = Netlink::open()?;
    let prefix = instance.name().sandbox_link_prefix();
    for (name, index) in netlink.links()? {
        if name.starts_with(&prefix) && table.on_link(index).is_none() {
            netlink.delete(index)?;
            programs.forget(index);
        }
    }
    Ok(())
}

/// Refuses kernels without tcx links, by name and before anything is made.
fn new_enough() -> Result<(), SteeringError> {
    let uname = rustix::system::uname();
    let found = uname.release().to_string_lossy().into_owned();
    if version(&found).is_some_and(|version| version < OLDEST) {
        return Err(SteeringError::Kernel { found });
    }
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first kernel with tcx links.
const OLDEST: (u32, u32) = (6, 6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_release() {
        for (release, expected) in [
            ("6.18.44-fc-v769", Some((6, 18))),
            ("6.6.0", Some((6, 6))),
            ("5.15.0-105-generic", Some((5, 15))),
            ("6.1-rc3", Some((6, 1))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }
}
