//! What the sandbox sees of the file system.
//!
//! The machine's files as they are, for the agent is to work on them, but for:
//! `/run`, `/dev`, `/proc` and `/sys`, which are fresh; the names and the roots
//! of trust, which are ours; and what must be hidden. Every change is a mount in
//! a namespace of our own, so nothing of it is seen outside or left behind.

mod devices;
mod kernel;
mod names;
mod runtime;
mod trust;

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind,
        mount_change, mount_remount, move_mount, open_tree,
    },
};

use super::{InitError, Plan, Trust, mask};

/// Makes mounts that follow invisible outside; what is unmounted outside still goes away here.
pub(super) fn stop_propagation() -> Result<(), InitError> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mounting("detach", "/", mount_change("/", flags))
}

/// Builds the sandbox's view.
pub(super) fn build(plan: &Plan, trust: &Trust) -> Result<(), InitError> {
    runtime::build(trust)?;
    devices::build(plan.terminal.as_deref().map(Path::new))?;
    kernel::build()?;
    names::build(plan.resolver)?;
    trust::build()?;
    mask::hide(&plan.masks)
}

/// Enters the working directory by its path: what was inherited may be masked by now.
pub(super) fn enter(directory: &std::ffi::OsStr) -> Result<(), InitError> {
    std::env::set_current_dir(directory).map_err(|source| InitError::Directory {
        path: directory.into(),
        source,
    })
}

/// A file system of memory; `data` bounds its size and sets its mode.
fn tmpfs(target: &str, flags: MountFlags, data: &CStr) -> Result<(), InitError> {
    let flags = flags | MountFlags::NOSUID | MountFlags::NODEV;
    mounting(
        "mount over",
        target,
        mount("tmpfs", target, "tmpfs", flags, data),
    )
}

/// Puts `source` over `target`, not to be written to.
pub(super) fn bind_read_only(source: &str, target: &Path) -> Result<(), InitError> {
    mounting("mount over", target, mount_bind(source, target))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mounting("protect", target, mount_remount(target, flags, c""))
}

/// Takes what is at `path` before something else is mounted there; `None` when nothing is.
fn keep(path: &Path) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).ok()
}

/// Puts what was kept at `target`, which exists.
fn put_back(kept: impl AsFd, target: &Path) -> Result<(), InitError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mounting(
        "mount over",
        target,
        move_mount(kept.as_fd(), "", CWD, target, flags),
    )
}

/// Where a path leads, by symbolic links whose ends may not exist yet.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(found) = fs::canonicalize(path) {
        return found;
    }
    match fs::read_link(path) {
        Ok(link) if link.is_absolute() => link,
        Ok(link) => lexical(&path.parent().unwrap_or(Path::new("/")).join(link)),
        Err(_) => path.to_owned(),
    }
}

/// The path without `.` and `..`, as far as that is known without looking.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn mounting<E: Into<io::Error>, T>(
    what: &'static str,
    path: impl AsRef<Path>,
    result: Result<T, E>,
) -> Result<T, InitError> {
    result.map_err(|error| InitError::Mount {
        what,
        path: path.as_ref().to_owned(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_etc_is_followed_without_its_end() {
        let path = lexical(Path::new("/etc/../run/systemd/./resolve/stub-resolv.conf"));
        assert_eq!(path, Path::new("/run/systemd/resolve/stub-resolv.conf"));
    }

    #[test]
    fn more_steps_up_than_there_are_end_at_the_root() {
        assert_eq!(lexical(Path::new("/../../run")), Path::new("/run"));
    }
}
