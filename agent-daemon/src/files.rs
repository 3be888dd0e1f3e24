//! Files that are read again when they change.
//!
//! The kernel tells of changes in the directories of the files, which covers
//! writing in place, renaming over, and the symlink that Kubernetes swaps. A look
//! once a second covers what it does not tell of: targets of symlinks elsewhere,
//! network file systems, a used-up number of inotify instances.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    future::pending,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, time::sleep};
use tracing::debug;
use zeroize::Zeroizing;

/// Wakes its owner when watched files may have changed.
pub(crate) struct Changes {
    /// `None` when there is nothing to watch.
    woken: Option<Arc<Notify>>,
    _watcher: Option<RecommendedWatcher>,
}

/// Time between two looks at files of which the kernel has told nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Changes {
    /// Watches `directories`. A directory that cannot be watched is looked at every second all the same.
    pub(crate) fn in_directories(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let directories: BTreeSet<PathBuf> = directories.into_iter().collect();
        if directories.is_empty() {
            return Self {
                woken: None,
                _watcher: None,
            };
        }
        let woken = Arc::new(Notify::new());
        // A change between the owner's last look and now is told at once.
        woken.notify_one();
        let watcher = watcher(Arc::clone(&woken), &directories)
            .inspect_err(|error| debug!(%error, "files are looked at once a second only"))
            .ok();
        Self {
            woken: Some(woken),
            _watcher: watcher,
        }
    }

    /// Watches the directories that hold `files`.
    pub(crate) fn of_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        Self::in_directories(files.into_iter().map(directory_of))
    }

    /// Returns when there is reason to look again: at once after a change, after a second without one.
    /// Never returns when there is nothing to watch.
    ///
    /// Cancel-safe: a change that came meanwhile is told by the next call.
    pub(crate) async fn next(&self) {
        let Some(woken) = &self.woken else {
            return pending().await;
        };
        tokio::select! {
            () = woken.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn watcher(
    woken: Arc<Notify>,
    directories: &BTreeSet<PathBuf>,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| is_change(event.kind)) {
            woken.notify_one();
        }
    })?;
    for directory in directories {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            debug!(directory = %directory.display(), %error, "directory is looked at once a second only");
        }
    }
    Ok(watcher)
}

/// Reading is no change: else our own look would be the reason for the next.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The state of `path`, through symlinks; `None` when it cannot be had.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path)
            .ok()
            .map(|metadata| Self::from(&metadata))
    }

    /// Tells whether the file has not changed for a while. A time in the future is no such while.
    fn has_rested(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds)
            .ok()
            .zip(u32::try_from(nanoseconds).ok())
            .map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok();
        let rested = now
            .zip(changed)
            .and_then(|(now, changed)| now.checked_sub(changed));
        rested.is_some_and(|rested| rested > SETTLED + CLOCK_TICK)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Time in which a file must not change, to be taken as wholly written.
const SETTLED: Duration = Duration::from_millis(50);

/// How far the times of files may be behind the clock: they are those of the kernel's last tick.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Looks at a file that goes on changing; half a second in all.
const LOOKS: usize = 10;

/// Reads a file once nobody is writing it any more.
///
/// A buffer of its final size is taken at the start, so that no copy of what is
/// read stays behind in freed memory.
///
/// # Errors
///
/// Fails when the file cannot be read, is no regular file, has more than `bound`
/// octets, or goes on changing for half a second.
pub(crate) async fn read_settled(
    path: &Path,
    bound: usize,
) -> io::Result<(Stamp, Zeroizing<Vec<u8>>)> {
    for _ in 0..LOOKS {
        let before = Stamp::of(path);
        if !before.is_some_and(|stamp| stamp.has_rested()) {
            sleep(SETTLED).await;
        }
        let owned = path.to_path_buf();
        let (stamp, octets) = tokio::task::spawn_blocking(move || read_bounded(&owned, bound))
            .await
            .map_err(io::Error::other)??;
        if before == Some(stamp) && Stamp::of(path) == Some(stamp) {
            return Ok((stamp, octets));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Reads a regular file of at most `bound` octets, with its state as it was opened.
pub(crate) fn read_bounded(path: &Path, bound: usize) -> io::Result<(Stamp, Zeroizing<Vec<u8>>)> {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let mut options = File::options();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(bound + 1));
    file.take(bound as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() > bound {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok((Stamp::from(&metadata), octets))
}
