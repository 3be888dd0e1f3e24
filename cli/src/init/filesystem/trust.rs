//! The roots of trust at the places where programs look without being told.

use std::{collections::BTreeSet, fs, path::Path};

use rustix::mount::{MountFlags, mount};

use super::bind_read_only;
use crate::init::{InitError, files};

/// OpenSSL's directory of roots, one file each.
const HASHED: &str = "/etc/ssl/certs";

/// Puts our bundle over every bundle that exists, and our root among the single ones.
pub(super) fn build() -> Result<(), InitError> {
    add_hashed();
    replace(files::BUNDLES, "bundle.pem")?;
    replace(files::JAVA_STORES, "trust.p12")
}

/// Lays our directory over the machine's. Without an overlay file system only those
/// programs miss it that read neither the bundle nor `SSL_CERT_DIR`.
fn add_hashed() {
    let ours = format!("{}/certs", files::DIRECTORY);
    let layers = format!("lowerdir={ours}:{HASHED}");
    if let Ok(layers) = std::ffi::CString::new(layers) {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        let _ = mount("overlay", HASHED, "overlay", flags, &*layers);
    }
}

/// Several of the paths are often links to one file: each file is covered once.
fn replace(paths: &[&str], name: &str) -> Result<(), InitError> {
    let ours = format!("{}/{name}", files::DIRECTORY);
    let targets: BTreeSet<_> = paths
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    targets
        .iter()
        .try_for_each(|target: &std::path::PathBuf| bind_read_only(&ours, Path::new(target)))
}
