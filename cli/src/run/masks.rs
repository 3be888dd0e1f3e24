//! What the sandbox must not see: secrets in files, and sockets of the machine's services.
//!
//! A socket in the file system is a way past every network namespace (a container
//! engine's, a terminal multiplexer's, an agent of keys). `/run`, where most are,
//! is empty in a sandbox; the kernel's table says where the others are now.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::bail;

/// Directories that hold sockets, or will, and our own configuration.
const DIRECTORIES: &[&str] = &[
    "/etc/ersatz",
    "/tmp/.X11-unix",
    "/tmp/.ICE-unix",
    "/tmp/.font-unix",
    "/var/lib/ersatz",
];

/// Beginnings of names in `/tmp` whose directories hold sockets.
const PREFIXES: &[&str] = &[
    "ssh-",
    "tmux-",
    "screen-",
    "dbus-",
    "gpg-",
    "com.apple.launchd.",
];

/// Already fresh in a sandbox, or nothing that leads outside.
const FRESH: &[&str] = &["/run", "/var/run", "/dev", "/proc", "/sys"];

/// Who a user is, is asked here on machines of a domain.
const HARMLESS: &[&str] = &["/var/lib/sss/pipes/nss"];

/// Sockets that are hidden at most: each is a mount. No machine has so many, and one that
/// cannot be hidden must not be left visible.
const MAX_SOCKETS: usize = 4096;

/// All that is hidden, by path; `secrets` are files that hold them, or are the daemon's alone.
pub(super) fn collect(secrets: &[PathBuf]) -> anyhow::Result<Vec<OsString>> {
    let mut masks: BTreeSet<PathBuf> = secrets.iter().map(|file| around(file, secrets)).collect();
    masks.extend(DIRECTORIES.iter().map(PathBuf::from));
    masks.extend(temporary());
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    masks.extend(sockets(&table, Path::exists)?);
    Ok(masks.into_iter().map(PathBuf::into_os_string).collect())
}

/// What is hidden for a secret's file: its directory where that holds nothing else, so
/// that the file's successor is hidden as well when it is replaced; else the file alone.
fn around(file: &Path, secrets: &[PathBuf]) -> PathBuf {
    match file.parent() {
        Some(parent) if holds_only(parent, secrets).unwrap_or(false) => parent.to_owned(),
        _ => file.to_owned(),
    }
}

/// Names that begin with two dots are how Kubernetes replaces a volume's files at once.
fn holds_only(directory: &Path, secrets: &[PathBuf]) -> std::io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let replaced = entry.file_name().to_string_lossy().starts_with("..");
        if !replaced && !secrets.contains(&entry.path()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn temporary() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/tmp").into_iter().flatten().flatten();
    entries
        .filter(|entry| has_prefix(&entry.file_name()))
        .map(|entry| entry.path())
}

fn has_prefix(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The paths of bound sockets in `/proc/net/unix`; abstract ones belong to a network namespace.
fn sockets(table: &str, exists: fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let lines = table.lines().skip(1);
    let paths = lines.filter_map(|line| line.split_once(" /").map(|(_, path)| path));
    let found: Vec<_> = paths
        .map(|path| PathBuf::from(format!("/{path}")))
        .filter(|path| !FRESH.iter().any(|fresh| path.starts_with(fresh)))
        .filter(|path| !HARMLESS.iter().any(|harmless| path == Path::new(harmless)))
        .filter(|path| exists(path))
        .take(MAX_SOCKETS + 1)
        .collect();
    if found.len() > MAX_SOCKETS {
        bail!(
            "this machine has more than {MAX_SOCKETS} sockets in its file system, too many to hide"
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/docker.sock
0000000000000000: 00000002 00000000 00010000 0001 01 2 /tmp/my tmux/default
0000000000000000: 00000002 00000000 00010000 0001 01 3 @abstract/x
0000000000000000: 00000003 00000000 00000000 0001 03 4
0000000000000000: 00000002 00000000 00010000 0001 01 5 /home/u/.docker/run/docker.sock
0000000000000000: 00000002 00000000 00010000 0001 01 6 /var/lib/sss/pipes/nss
";

    #[test]
    fn sockets_outside_of_fresh_directories_are_hidden() {
        let found = sockets(TABLE, |_| true).expect("a few");
        let expected = ["/tmp/my tmux/default", "/home/u/.docker/run/docker.sock"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn more_sockets_than_can_be_hidden_are_an_error() {
        let table = |count| -> String {
            (0..=count)
                .map(|n| format!("0: 2 0 1 1 1 1 /tmp/{n}\n"))
                .collect()
        };
        let found = sockets(&table(MAX_SOCKETS), |_| true).expect("just as many");
        assert_eq!(found.len(), MAX_SOCKETS);
        assert!(sockets(&table(MAX_SOCKETS + 1), |_| true).is_err());
    }

    #[test]
    fn a_directory_is_hidden_when_it_holds_nothing_but_secrets() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let secrets = ["a", "b"].map(|name| directory.path().join(name));
        for file in &secrets {
            fs::write(file, "secret")?;
        }
        fs::create_dir(directory.path().join("..data"))?;
        assert_eq!(around(&secrets[0], &secrets), directory.path());
        assert_eq!(around(&secrets[0], &secrets[..1]), secrets[0]);
        Ok(())
    }
}
