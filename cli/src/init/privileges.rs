//! Gives up every privilege, for good.
//!
//! After this the process and all it starts have the user's identity, no
//! capability in any set, nothing to gain by set-user-ID programs, and no
//! memory that others of the same user may read. It dies with its parent.

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::InitError;
use crate::run::User;

/// Becomes `user`, without any privilege.
pub(super) fn give_up(user: &User) -> Result<(), InitError> {
    empty_bounding_set()?;
    attempt(
        "clear the ambient capabilities",
        clear_ambient_capability_set(),
    )?;
    become_user(user)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    attempt("drop the capabilities", set_capabilities(None, none))?;
    attempt("forbid new privileges", prctl::set_no_new_privs())?;
    attempt("become undumpable", prctl::set_dumpable(false))?;
    // A change of identity resets it, so this comes last.
    attempt("die with the parent", prctl::set_pdeathsig(Signal::SIGKILL))
}

fn become_user(user: &User) -> Result<(), InitError> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    attempt("set the groups", setgroups(&groups))?;
    attempt("set the group", setresgid(gid, gid, gid))?;
    attempt("set the user", setresuid(uid, uid, uid))
}

/// Drops each capability that the kernel knows, known to us or not.
fn empty_bounding_set() -> Result<(), InitError> {
    for number in 0..CapabilitySet::all().bits().count_ones().max(u64::BITS) {
        let Some(capability) = CapabilitySet::from_bits(1 << number) else {
            continue;
        };
        match remove_capability_from_bounding_set(capability) {
            // The first number that the kernel does not know.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            result => attempt("empty the bounding set", result)?,
        }
    }
    Ok(())
}

fn attempt<E: Into<std::io::Error>>(
    what: &'static str,
    result: Result<(), E>,
) -> Result<(), InitError> {
    result.map_err(|error| InitError::Privilege {
        what,
        source: error.into(),
    })
}
