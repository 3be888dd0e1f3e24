//! Where things are in this checkout.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask/ lies in the workspace's root")
}

/// The directory that cargo builds into, which also holds what `setup` installs.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The Python of the environment that `setup` makes for the tests' clients.
pub(crate) fn venv() -> PathBuf {
    target().join("venv")
}

/// The directory of the npm packages that the agent tests run.
pub(crate) fn agents() -> PathBuf {
    target().join("agents")
}

/// Where the bench keeps what it needs and what it finds.
pub(crate) fn bench() -> PathBuf {
    target().join("bench")
}

/// The Python environment with the proxies that the bench compares with.
pub(crate) fn bench_venv() -> PathBuf {
    bench().join("venv")
}
