//! Descriptors that nobody meant for the sandbox.
//!
//! A socket or directory that the shell left open would be a way past every
//! namespace, so all but the standard ones are closed.

use std::{fs, io};

/// Closes every descriptor but 0, 1 and 2; called before any other is opened.
pub(super) fn close_inherited() -> io::Result<()> {
    for descriptor in open()? {
        // The listing's own descriptor is among them and closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

fn open() -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number: Option<i32> = name.to_str().and_then(|name| name.parse().ok());
        found.extend(number.filter(|fd| *fd > 2));
    }
    Ok(found)
}
