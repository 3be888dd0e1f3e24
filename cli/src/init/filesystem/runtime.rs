//! `/run`: the sockets of the machine's services live here, so it starts empty.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::mount::MountFlags;

use super::{keep, mounting, put_back, tmpfs};
use crate::init::{InitError, Trust, files};

/// What programs need of the old `/run`: links to the running system, on NixOS.
const KEPT: &[&str] = &[
    "/run/current-system",
    "/run/booted-system",
    "/run/opengl-driver",
];

/// Replaces `/run`, and `/var/run` where that is another directory, and writes our files there.
pub(super) fn build(trust: &Trust) -> Result<(), InitError> {
    let kept: Vec<(&Path, Kept)> = KEPT
        .iter()
        .filter_map(|path| Some((Path::new(path), Kept::of(path)?)))
        .collect();
    tmpfs("/run", MountFlags::empty(), c"mode=755,size=64m")?;
    if fs::canonicalize("/var/run").is_ok_and(|path| path == Path::new("/var/run")) {
        tmpfs("/var/run", MountFlags::empty(), c"mode=755,size=64m")?;
    }
    for (path, kept) in kept {
        kept.restore(path)?;
    }
    fs::create_dir("/run/lock")
        .and_then(|()| fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777)))
        .map_err(|source| InitError::Mount {
            what: "make",
            path: "/run/lock".into(),
            source,
        })?;
    mounting("write to", files::DIRECTORY, files::write_all(trust))
}

/// An entry of the old `/run`.
enum Kept {
    Link(PathBuf),
    Directory(OwnedFd),
}

impl Kept {
    fn of(path: &str) -> Option<Kept> {
        if let Ok(target) = fs::read_link(path) {
            return Some(Kept::Link(target));
        }
        keep(Path::new(path)).map(Kept::Directory)
    }

    fn restore(self, path: &Path) -> Result<(), InitError> {
        match self {
            Kept::Link(target) => mounting("link", path, std::os::unix::fs::symlink(target, path)),
            Kept::Directory(tree) => {
                mounting("make", path, fs::create_dir(path))?;
                put_back(tree, path)
            }
        }
    }
}
