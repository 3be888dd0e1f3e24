//! The resources in force, read from files and read again when these change.
//!
//! All files are one state: it is taken whole, and only when all of it is right.
//! Until then the last good state stays in force, and the log, the condition and
//! a gauge say what is wrong. So a policy that breaks neither opens nor shuts a
//! running sandbox; at the start a broken state is an error.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use ersatz_api::{LoadErrors, Resources};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::files::{Changes, Stamp};

/// Files and directories with resources, and what they said when it was last right.
pub struct Config {
    paths: Vec<PathBuf>,
    current: watch::Sender<Arc<Resources>>,
    problem: ArcSwapOption<LoadErrors>,
}

/// Time in which no file may change before all are read, so that a set of files that is written one by one is one change.
const SETTLED: Duration = Duration::from_millis(50);

/// Looks at files that go on changing; half a second in all, then they are read as they are.
const LOOKS: usize = 10;

impl Config {
    /// Loads `paths`: files, and of directories all `*.yaml` and `*.yml`.
    ///
    /// # Errors
    ///
    /// Fails with all that is wrong in them, each error with its place.
    pub fn load(paths: Vec<PathBuf>) -> Result<Arc<Self>, LoadErrors> {
        let resources = read(&paths)?;
        Ok(Arc::new(Self {
            paths,
            current: watch::Sender::new(Arc::new(resources)),
            problem: ArcSwapOption::empty(),
        }))
    }

    /// The resources in force.
    pub fn current(&self) -> Arc<Resources> {
        Arc::clone(&self.current.borrow())
    }

    /// The resources in force, now and after each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Resources>> {
        self.current.subscribe()
    }

    /// What is wrong with the files as they are now; `None` when they are what is in force.
    pub fn problem(&self) -> Option<Arc<LoadErrors>> {
        self.problem.load_full()
    }

    /// Takes over changes of the files until `shutdown` is cancelled.
    pub async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow_changes() => {}
        }
    }

    async fn follow_changes(&self) {
        let changes = Changes::in_directories(self.paths.iter().map(|path| directory(path)));
        let mut seen = None;
        loop {
            let now = State::of(&self.paths);
            if seen.as_ref() != Some(&now) {
                seen = Some(self.reload(now).await);
            }
            changes.next().await;
        }
    }

    /// Reads the files once they have settled; gives the state that was read.
    async fn reload(&self, mut before: State) -> State {
        for _ in 0..LOOKS {
            sleep(SETTLED).await;
            let now = State::of(&self.paths);
            let settled = now == before;
            before = now;
            if settled {
                break;
            }
        }
        let paths = self.paths.clone();
        match tokio::task::spawn_blocking(move || read(&paths)).await {
            Ok(Ok(resources)) => self.take(resources),
            Ok(Err(errors)) => self.complain(errors),
            Err(error) => error!(%error, "reading the configuration was broken off"),
        }
        before
    }

    fn take(&self, resources: Resources) {
        self.problem.store(None);
        let changed = self.current.send_if_modified(|current| {
            let changed = **current != resources;
            if changed {
                *current = Arc::new(resources);
            }
            changed
        });
        if changed {
            info!("configuration changed");
        }
    }

    fn complain(&self, errors: LoadErrors) {
        for problem in errors.iter() {
            error!(%problem, "configuration not taken, the last good one stays in force");
        }
        self.problem.store(Some(Arc::new(errors)));
    }
}

/// Also the node's settings are compiled, so that whoever asks for them later finds them right.
fn read(paths: &[PathBuf]) -> Result<Resources, LoadErrors> {
    let resources = Resources::load(paths)?;
    resources.node()?;
    Ok(resources)
}

/// The directory in which changes of `path` are seen.
fn directory(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_path_buf();
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// What tells one state of the files from another.
#[derive(PartialEq, Eq)]
struct State(Vec<(PathBuf, Option<Stamp>)>);

impl State {
    fn of(paths: &[PathBuf]) -> Self {
        let stamped = |path: PathBuf| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        };
        Self(
            paths
                .iter()
                .flat_map(|path| files(path))
                .map(stamped)
                .collect(),
        )
    }
}

/// A file, or a directory with the resources in it.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| {
            file.extension()
                .is_some_and(|kind| kind == "yaml" || kind == "yml")
        })
        .collect();
    files.push(path.to_path_buf());
    files.sort();
    files
}

#[cfg(test)]
mod tests;
