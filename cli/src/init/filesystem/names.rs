//! `/etc/resolv.conf`: the daemon is the only resolver.

use std::{fs, net::IpAddr, path::Path};

use super::{bind_read_only, mounting, resolved};
use crate::init::{InitError, files::DIRECTORY};

const FILE: &str = "/etc/resolv.conf";

/// Puts our `resolv.conf` where the machine's is, or where its link leads.
pub(super) fn build(resolver: IpAddr) -> Result<(), InitError> {
    let ours = format!("{DIRECTORY}/resolv.conf");
    let content = format!(
        "# Written by ersatz: it answers every name of this sandbox.\nnameserver {resolver}\noptions timeout:1 attempts:5\n"
    );
    mounting("write", &ours, fs::write(&ours, content))?;
    let target = resolved(Path::new(FILE));
    if target.starts_with("/run") || target.starts_with("/var/run") {
        // The old one went away with the old /run: it is made anew.
        let parent = target.parent().unwrap_or(Path::new("/run"));
        mounting("make", parent, fs::create_dir_all(parent))?;
        mounting("write", &target, fs::write(&target, b""))?;
    }
    bind_read_only(&ours, &target)
}
