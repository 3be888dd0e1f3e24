//! Work in another network namespace: always by a thread that ends with it.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    panic, thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::fstat;

use crate::{SteeringError, error::system};

/// Runs `work` inside the namespace.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, SteeringError> + Send,
) -> Result<T, SteeringError> {
    on_a_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(system("enter a network namespace"))?;
        work()
    })
}

/// Runs `work` inside a namespace that nobody else has.
pub(crate) fn inside_new<T: Send>(
    work: impl FnOnce() -> Result<T, SteeringError> + Send,
) -> Result<T, SteeringError> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(system("make a network namespace"))?;
        work()
    })
}

/// The namespace's inode. It tells apart all that live at the same time.
pub(crate) fn inode(namespace: impl AsFd) -> Result<u64, SteeringError> {
    let stat = fstat(namespace).map_err(system("examine a network namespace"))?;
    Ok(stat.st_ino)
}

/// The namespace of the calling thread.
pub(crate) fn own() -> Result<File, SteeringError> {
    File::open("/proc/thread-self/ns/net").map_err(system("open the own network namespace"))
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panicked) => panic::resume_unwind(panicked),
    })
}
