//! Hides files, sockets and directories that the sandbox must not reach.

use std::{ffi::OsString, fs, path::Path};

use rustix::mount::{MountFlags, mount};

use super::{InitError, files::DIRECTORY, filesystem::bind_read_only};

/// Hides each of `paths` that exists.
pub(super) fn hide(paths: &[OsString]) -> Result<(), InitError> {
    paths.iter().try_for_each(|path| hide_one(Path::new(path)))
}

/// Hides what is at `path`: a directory becomes empty, anything else an unreadable file.
///
/// To connect to a socket below either is refused, as there is none any more.
pub(super) fn hide_one(path: &Path) -> Result<(), InitError> {
    // Links are followed, as whoever opens the path would follow them.
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    if !metadata.is_dir() {
        return bind_read_only(&format!("{DIRECTORY}/hidden"), path);
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", path, "tmpfs", flags, c"mode=000,size=4k").map_err(|error| InitError::Mount {
        what: "hide",
        path: path.to_owned(),
        source: error.into(),
    })
}
