//! The kernel's records as aya wants them.

use ersatz_ebpf_common::Sandbox;

/// A [`Sandbox`] record, as it lies in the map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Record(pub(crate) Sandbox);

// SAFETY: `Sandbox` is repr(C), made of integers and arrays of integers, any
// bytes are a value of it, and its size assertion leaves no room for padding.
#[expect(unsafe_code, reason = "the promise that aya asks for plain data")]
unsafe impl aya::Pod for Record {}
