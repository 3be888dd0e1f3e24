//! Which programs may be run for a secret.
//!
//! A command runs outside of every sandbox and with the daemon's rights, while an
//! agent in a sandbox often owns the files of the person who started it. So what
//! is run must not be in reach of anybody but root and the daemon's own user: a
//! program in such a person's home would be a way out of the sandbox.

use std::{
    env,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Uid, User, access, geteuid};

use super::ExecError;

/// Where `program` is: a path, or a name that is looked for in the trusted part of `PATH`.
pub(super) fn find(program: &str) -> Result<PathBuf, ExecError> {
    if program.contains('/') {
        return trusted(Path::new(program));
    }
    let path = search_path();
    let found = env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| access(path, AccessFlags::X_OK).is_ok() && path.is_file());
    trusted(&found.ok_or(ExecError::Start(io::ErrorKind::NotFound))?)
}

/// All that a command sees of our environment. Our own secrets are in the rest, and a home
/// that is not the daemon's own user's may be in a sandbox's reach.
pub(super) fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let user = User::from_uid(geteuid()).ok().flatten();
    let (name, home) = user.map(|user| (user.name.into(), user.dir.into())).unzip();
    let passed = |name| env::var_os(name);
    [
        ("PATH", Some(search_path())),
        ("HOME", home),
        ("USER", name),
        ("LANG", passed("LANG")),
        ("TZ", passed("TZ")),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// Our `PATH` without the directories that others may change.
fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let directories = env::split_paths(&path).filter(|directory| trusted(directory).is_ok());
    env::join_paths(directories).unwrap_or_default()
}

/// Gives the path without symlinks, when nobody but root and ourselves may change it or what leads to it.
fn trusted(path: &Path) -> Result<PathBuf, ExecError> {
    let failed = |error: io::Error| ExecError::Start(error.kind());
    let path = path.canonicalize().map_err(failed)?;
    for step in path.ancestors() {
        let metadata = fs::metadata(step).map_err(failed)?;
        if !is_shut(&metadata, geteuid()) {
            return Err(ExecError::Changeable);
        }
    }
    Ok(path)
}

/// Tells whether only root and `ours` may change a file, or what is in a directory. In a
/// sticky directory, as /tmp, others cannot replace what is not theirs.
fn is_shut(metadata: &Metadata, ours: Uid) -> bool {
    let owner = Uid::from_raw(metadata.uid());
    let by_group = metadata.mode() & 0o020 != 0 && metadata.gid() != 0;
    let by_others = metadata.mode() & 0o002 != 0;
    let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    (owner.is_root() || owner == ours) && (sticky || !(by_group || by_others))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;
    use rstest::rstest;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    }

    #[test]
    fn finds_the_systems_programs() {
        for program in ["sh", "/bin/sh"] {
            assert!(
                find(program).is_ok_and(|path| path.is_absolute()),
                "{program}"
            );
        }
        let absent = ExecError::Start(io::ErrorKind::NotFound);
        for program in ["nonexistent-program", "/nonexistent/program", ""] {
            assert_eq!(find(program), Err(absent), "{program}");
        }
    }

    #[rstest]
    #[case::as_usual(0o755, 0o755, true)]
    #[case::program_of_a_group(0o775, 0o755, false)]
    #[case::program_of_all(0o757, 0o755, false)]
    #[case::directory_of_a_group(0o755, 0o775, false)]
    #[case::directory_of_all(0o755, 0o777, false)]
    #[case::sticky_directory(0o755, 0o1777, true)]
    fn takes_no_program_that_others_may_change(
        #[case] of_program: u32,
        #[case] of_directory: u32,
        #[case] taken: bool,
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("program");
        fs::write(&program, "#!/bin/sh\n").expect("a file");
        if geteuid().is_root() {
            // Files of the group of root may be written by root alone.
            for path in [program.as_path(), directory.path()] {
                chown(path, None, Some(65534)).expect("given to a group");
            }
        }
        mode(&program, of_program);
        mode(directory.path(), of_directory);
        let found = find(&program.to_string_lossy());
        assert_eq!(found.is_ok(), taken, "{found:?}");
        if !taken {
            assert_eq!(found, Err(ExecError::Changeable));
        }
    }

    #[test]
    fn looks_at_what_a_link_leads_to() {
        let (there, here) = [(); 2]
            .map(|()| tempfile::tempdir().expect("a directory"))
            .into();
        let program = there.path().join("program");
        fs::write(&program, "").expect("a file");
        mode(&program, 0o777);
        let link = here.path().join("program");
        symlink(&program, &link).expect("a link");
        assert_eq!(find(&link.to_string_lossy()), Err(ExecError::Changeable));
    }

    #[test]
    fn takes_no_program_of_another_user() {
        let another = Uid::from_raw(geteuid().as_raw() + 1);
        let directory = tempfile::tempdir().expect("a directory");
        let metadata = fs::metadata(directory.path()).expect("metadata");
        assert!(is_shut(&metadata, geteuid()));
        assert_eq!(is_shut(&metadata, another), geteuid().is_root());
        if geteuid().is_root() {
            chown(directory.path(), Some(another.as_raw()), None).expect("given away");
            let metadata = fs::metadata(directory.path()).expect("metadata");
            assert!(!is_shut(&metadata, geteuid()) && is_shut(&metadata, another));
        }
    }

    #[test]
    fn the_home_is_that_of_the_daemons_user() {
        let home = environment().find(|(name, _)| *name == "HOME");
        let user = User::from_uid(geteuid())
            .expect("an answer")
            .expect("a user");
        assert_eq!(home.map(|(_, home)| home), Some(user.dir.into_os_string()));
    }
}
