//! The kernel's records of sandboxes, as they are read and written.

use aya::maps::MapError;
use ersatz_ebpf_common::Sandbox;

use crate::{SandboxId, SteeringError, programs::Programs, table::freed};

/// A [`Sandbox`] record, as it lies in the map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Record(pub(crate) Sandbox);

// SAFETY: `Sandbox` is repr(C), made of integers and arrays of integers, any
// bytes are a value of it, and its size assertion leaves no room for padding.
#[expect(unsafe_code, reason = "the promise that aya asks for plain data")]
unsafe impl aya::Pod for Record {}

impl Programs {
    /// Writes a sandbox's record, then makes its link point to it.
    pub(crate) fn write(&mut self, id: SandboxId, record: Sandbox) -> Result<(), SteeringError> {
        let slot = u32::from(id.slot);
        self.sandboxes.set(slot, Record(record), 0)?;
        self.links.insert(record.ifindex, slot, 0)?;
        Ok(())
    }

    /// Makes the link point to nothing, then frees the record.
    pub(crate) fn erase(&mut self, id: SandboxId, ifindex: u32) -> Result<(), SteeringError> {
        match self.links.remove(&ifindex) {
            Err(error) if !absent(&error) => return Err(error.into()),
            _ => {}
        }
        let slot = u32::from(id.slot);
        self.sandboxes.set(slot, Record(freed(id)), 0)?;
        Ok(())
    }

    /// The link of a slot, as far as the kernel knows; 0 if none.
    pub(crate) fn link_of(&self, id: SandboxId) -> u32 {
        let record = self.sandboxes.get(&u32::from(id.slot), 0);
        record.map_or(0, |Record(sandbox)| sandbox.ifindex)
    }

    /// All records, by slot.
    pub(crate) fn all(&self) -> Result<Vec<Sandbox>, SteeringError> {
        self.sandboxes.iter().map(|record| Ok(record?.0)).collect()
    }
}

/// Whether a map said that it has no such key.
fn absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(nix::libc::ENOENT),
        _ => false,
    }
}
