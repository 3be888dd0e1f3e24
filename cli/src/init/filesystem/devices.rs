//! `/dev`: the few devices that programs need, and terminals of the sandbox's own.
//!
//! Disks, memory and the user's other terminals are out of reach, even for a
//! sandbox that runs as user 0, which owns their nodes.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, symlink},
    },
    path::Path,
};

use rustix::mount::{MountFlags, mount};

use super::{keep, mounting, put_back, tmpfs};
use crate::init::InitError;

/// The devices that are taken over.
const NODES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// The links that programs expect.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// The group of terminals, where it has its usual number, and the mode of each.
const TERMINALS: &std::ffi::CStr = c"newinstance,ptmxmode=0666,mode=620,gid=5";

/// Replaces `/dev`; `terminal`, the caller's, stays reachable as `/dev/console`.
pub(super) fn build(terminal: Option<&Path>) -> Result<(), InitError> {
    let nodes: Vec<(&str, OwnedFd)> = NODES
        .iter()
        .filter_map(|path| Some((*path, keep(Path::new(path))?)))
        .collect();
    let console = terminal.and_then(keep);
    // Not `tmpfs`: the nodes are bound, and this mount holds no other.
    tmpfs("/dev", MountFlags::NOEXEC, c"mode=755,size=64k")?;
    for (path, node) in nodes {
        place(path, node)?;
    }
    if let Some(console) = console {
        place("/dev/console", console)?;
    }
    mounting("make", "/dev/shm", directory("/dev/shm", 0o1777))?;
    tmpfs("/dev/shm", MountFlags::empty(), c"mode=1777")?;
    mounting("make", "/dev/pts", directory("/dev/pts", 0o755))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounting(
        "mount over",
        "/dev/pts",
        mount("devpts", "/dev/pts", "devpts", flags, TERMINALS),
    )?;
    for (target, link) in LINKS {
        mounting("link", link, symlink(target, link))?;
    }
    Ok(())
}

fn place(path: &str, node: OwnedFd) -> Result<(), InitError> {
    mounting("make", path, File::create(path))?;
    put_back(node, Path::new(path))
}

fn directory(path: &str, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
