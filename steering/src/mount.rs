//! The two mounts of an instance: the gate's namespace and a bpffs.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{BPF_FS_MAGIC, FsType, NSFS_MAGIC, statfs},
};

use crate::{SteeringError, error::path};

/// Whether a namespace is mounted on the file.
pub(crate) fn has_namespace(file: &Path) -> bool {
    has(file, NSFS_MAGIC)
}

/// Mounts a bpffs, unless one is there.
pub(crate) fn bpffs(dir: &Path) -> Result<(), SteeringError> {
    if has(dir, BPF_FS_MAGIC) {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(path("make the directory", dir))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700"))
        .map_err(path("mount a bpffs on", dir))
}

/// Keeps the namespace of the calling thread alive by a mount on `file`.
pub(crate) fn keep_namespace(file: &Path) -> Result<(), SteeringError> {
    File::create(file).map_err(path("make", file))?;
    let own = Path::new("/proc/thread-self/ns/net");
    mount(
        Some(own),
        file,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(path("mount a network namespace on", file))
}

/// Unmounts whatever is mounted there; nothing is no error.
pub(crate) fn unmount(target: &Path) -> Result<(), SteeringError> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(path("unmount", target)(io::Error::from(error))),
    }
}

fn has(target: &Path, magic: FsType) -> bool {
    statfs(target).is_ok_and(|found| found.filesystem_type() == magic)
}
