//! The identity of a sandbox.

use std::fmt;

/// Which sandbox: its slot, and which use of the slot.
///
/// An identity is never used twice by an instance, not even by the process
/// that takes an instance over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId {
    pub(crate) slot: u16,
    pub(crate) epoch: u32,
}

impl SandboxId {
    /// An identity by its parts. It gives no right to anything: what a connection's identity is,
    /// [`Steering::identify`](crate::Steering::identify) says.
    pub fn from_parts(slot: u16, epoch: u32) -> Self {
        Self { slot, epoch }
    }

    /// The sandbox's place in the kernel's table.
    pub fn slot(self) -> u16 {
        self.slot
    }

    /// Which use of the slot this is, counted over the instance's whole life.
    pub fn epoch(self) -> u32 {
        self.epoch
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.epoch)
    }
}
