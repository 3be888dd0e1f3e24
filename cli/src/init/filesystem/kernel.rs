//! `/proc` and `/sys`: the sandbox's own processes and links, nothing to be written.
//!
//! Some files there act for the whole machine and ask only for user 0, not for
//! a capability (`/proc/sys/kernel/core_pattern` starts a program as root), so
//! they are read-only or hidden, by the lists that container runtimes use.

use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::{bind_read_only, mounting, tmpfs};
use crate::init::{InitError, mask};

/// Read-only parts of `/proc`.
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Hidden parts of `/proc` and `/sys`.
const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Mounts both afresh and closes what is in them.
pub(super) fn build() -> Result<(), InitError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounting(
        "mount over",
        "/proc",
        mount("proc", "/proc", "proc", flags, None),
    )?;
    let read_only = flags | MountFlags::RDONLY;
    if mount("sysfs", "/sys", "sysfs", read_only, None).is_err() {
        // Without one of its own the machine's must not be left there.
        tmpfs("/sys", MountFlags::RDONLY, c"mode=755,size=4k")?;
    }
    for path in READ_ONLY.iter().map(Path::new).filter(|path| path.exists()) {
        bind_read_only(&path.to_string_lossy(), path)?;
    }
    HIDDEN
        .iter()
        .try_for_each(|path| mask::hide_one(Path::new(path)))
}
