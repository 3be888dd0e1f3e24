//! The kernel programs.
//!
//! Each entry point hands its context to a `try_` function, whose verdict it
//! always returns. What may pass is decided in `ersatz-ebpf-common`; here are
//! only the maps and the kernel's helpers.
#![no_std]
#![no_main]

mod drops;
mod gate_lookup;
mod gate_return;
mod maps;
mod packet;
mod sandbox_egress;
mod sandbox_ingress;
mod sandbox_shut;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends its GPL-only helpers to programs under this licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
