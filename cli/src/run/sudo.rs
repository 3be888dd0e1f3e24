//! The caller of sudo: who it is, and the path that sudo took away.
//!
//! sudo gives its command a path of its own, so that root runs nothing from a
//! user's directories. The sandbox's command runs as that user, who wants their
//! own programs; sudo itself still has the path that it was called with.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
};

use nix::unistd::{Gid, Uid};
use rustix::process::getppid;

/// The user who called sudo; the variables count only where sudo could have set them, as root.
pub(super) fn caller() -> Option<(Uid, Gid)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let (uid, gid) = (number("SUDO_UID")?, number("SUDO_GID")?);
    Uid::effective()
        .is_root()
        .then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// The path that the caller of sudo has.
pub(super) fn path_of_caller() -> Option<OsString> {
    caller()?;
    let parent = getppid()?.as_raw_nonzero();
    let name = fs::read(format!("/proc/{parent}/comm")).ok()?;
    if name.trim_ascii_end() != b"sudo" {
        return None;
    }
    path_in(&fs::read(format!("/proc/{parent}/environ")).ok()?)
}

fn path_in(environment: &[u8]) -> Option<OsString> {
    let variables = environment.split(|byte| *byte == 0);
    let mut values = variables.filter_map(|variable| variable.strip_prefix(b"PATH="));
    values.next().map(|path| OsStr::from_bytes(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_path_in_an_environment() {
        let environment = b"XPATH=/no\0PATH=/home/u/bin:/bin\0HOME=/home/u\0";
        assert_eq!(path_in(environment), Some("/home/u/bin:/bin".into()));
        assert_eq!(path_in(b"HOME=/"), None);
    }
}
