//! An instance: its name, its directory, and the lock that says that it lives.
//!
//! `node` is `ersatzd`; `run-<pid>` is an `ersatz run` that brought its own
//! daemon. `STATE/<instance>/` holds `lock` (locked while the process lives),
//! `gate` (the gate's namespace) and `bpf` (a bpffs with all that is pinned).

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{SteeringError, error::path};

/// The name of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InstanceName(Option<u32>);

impl InstanceName {
    /// The daemon of the machine, whose state outlives it.
    pub fn node() -> Self {
        Self(None)
    }

    /// The daemon inside one `ersatz run`, by process id.
    pub fn run(pid: u32) -> Self {
        Self(Some(pid))
    }

    /// The daemon inside this process.
    pub fn of_this_process() -> Self {
        Self::run(std::process::id())
    }

    /// Reads the name of a directory that belongs to an `ersatz run`.
    fn parse_run(name: &str) -> Option<Self> {
        let pid: u32 = name.strip_prefix("run-")?.parse().ok()?;
        (format!("run-{pid}") == name).then_some(Self(Some(pid)))
    }

    /// The host's end of the gate: at most 13 of the 15 characters that a link's name may have.
    pub(crate) fn gate_link(self) -> String {
        format!("ersatz{}", self.0.unwrap_or(0))
    }

    /// What the host's ends of this instance's sandboxes begin with.
    pub(crate) fn sandbox_link_prefix(self) -> String {
        format!("ez{}-", self.0.unwrap_or(0))
    }

    /// The host's end of the sandbox in `slot`.
    pub(crate) fn sandbox_link(self, slot: u16) -> String {
        format!("{}{slot:x}", self.sandbox_link_prefix())
    }

    /// How many sandboxes this instance can have: a run has one, and some to spare.
    pub(crate) fn slots(self) -> u32 {
        match self.0 {
            None => ersatz_ebpf_common::SLOTS,
            Some(_) => 16,
        }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("node"),
            Some(pid) => write!(f, "run-{pid}"),
        }
    }
}

/// A locked instance directory.
#[derive(Debug)]
pub(crate) struct Instance {
    name: InstanceName,
    dir: PathBuf,
    _lock: File,
}

impl Instance {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// Who looks for dead instances may take a new one for dead, between its
    /// directory and its lock: it is gone in a moment, and this tries again.
    pub(crate) fn lock(state_dir: &Path, name: InstanceName) -> Result<Self, SteeringError> {
        let dir = state_dir.join(name.to_string());
        for _ in 0..ATTEMPTS {
            for dir in [state_dir, &dir] {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)
                    .map_err(path("make the directory", dir))?;
            }
            let mut options = File::options();
            options.create(true).truncate(false).write(true);
            if let Some(locked) = Self::try_lock(name, dir.clone(), &options)? {
                return Ok(locked);
            }
            thread::sleep(BETWEEN_ATTEMPTS);
        }
        Err(SteeringError::Busy { instance: name })
    }

    /// The instances of `ersatz run` whose process is gone, locked.
    pub(crate) fn dead_runs(state_dir: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(state_dir) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| InstanceName::parse_run(entry.file_name().to_str()?))
            .filter_map(|name| {
                let dir = state_dir.join(name.to_string());
                Self::try_lock(name, dir, File::options().write(true)).ok()?
            })
            .collect()
    }

    /// Locks the directory, unless somebody else has it or has just removed it.
    fn try_lock(
        name: InstanceName,
        dir: PathBuf,
        options: &OpenOptions,
    ) -> Result<Option<Self>, SteeringError> {
        let lock = dir.join("lock");
        let file = match options.open(&lock) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(path("open", &lock)(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(path("lock", &lock)(error)),
        }
        let own = file.metadata().map_err(path("examine", &lock))?;
        let current = fs::metadata(&lock).is_ok_and(|found| found.ino() == own.ino());
        Ok(current.then_some(Self {
            name,
            dir,
            _lock: file,
        }))
    }

    pub(crate) fn name(&self) -> InstanceName {
        self.name
    }

    /// The mount of the gate's namespace.
    pub(crate) fn gate(&self) -> PathBuf {
        self.dir.join("gate")
    }

    /// The mount of the bpffs.
    pub(crate) fn bpf(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// Removes the directory, whose mounts are gone.
    pub(crate) fn remove(self) -> Result<(), SteeringError> {
        fs::remove_dir_all(&self.dir).map_err(path("remove", &self.dir))
    }
}

/// A dead instance is removed in less than this.
const ATTEMPTS: u32 = 100;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_link() {
        // The kernel's largest process id is 2^22.
        let name = InstanceName::run(4_194_304);
        assert!(name.gate_link().len() <= 15);
        assert!(name.sandbox_link(u16::MAX).len() <= 15);
        assert_ne!(InstanceName::node().gate_link(), name.gate_link());
    }

    #[test]
    fn a_second_process_of_an_instance_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = InstanceName::run(7);
        let first = Instance::lock(dir.path(), name).expect("the first lock");
        assert!(matches!(
            Instance::lock(dir.path(), name),
            Err(SteeringError::Busy { .. })
        ));
        assert!(Instance::dead_runs(dir.path()).is_empty());
        drop(first);
        assert_eq!(Instance::dead_runs(dir.path()).len(), 1);
    }

    #[test]
    fn only_runs_are_ever_collected() {
        for name in ["node", "run-", "run-07", "run-x", "run-1-2", "other"] {
            assert_eq!(InstanceName::parse_run(name), None, "{name}");
        }
        assert_eq!(
            InstanceName::parse_run("run-12"),
            Some(InstanceName::run(12))
        );
    }
}
