//! The frame of a context, by direct access.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_redirect_peer, bpf_skb_change_type},
    programs::TcContext,
};
use ersatz_ebpf_common::{DropReason, Frame, HEADERS_MAX};

/// The headers of a frame, readable and writable in place.
pub struct Packet<'a> {
    context: &'a TcContext,
    start: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    /// Makes the headers readable. They are already, but for frames that were
    /// written with their headers in pages (packet sockets).
    #[inline(always)]
    pub fn of(context: &'a TcContext) -> Result<Self, DropReason> {
        let wanted = (context.len() as usize).min(HEADERS_MAX);
        if context.data() + wanted > context.data_end() {
            context
                .pull_data(wanted as u32)
                .map_err(|_| DropReason::Helper)?;
        }
        Ok(Self {
            context,
            start: context.data(),
            end: context.data_end(),
        })
    }

    /// Writes `bytes` at `offset`, in place.
    #[inline(always)]
    pub fn store<const N: usize>(
        &mut self,
        offset: usize,
        bytes: &[u8; N],
    ) -> Result<(), DropReason> {
        let at = self.start + offset;
        if at + N > self.end {
            return Err(DropReason::Helper);
        }
        // SAFETY: the bytes are inside the packet, as just compared; the array has no alignment.
        unsafe { *(at as *mut [u8; N]) = *bytes };
        Ok(())
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.start + offset;
        if at + N > self.end {
            return None;
        }
        // SAFETY: the bytes are inside the packet, as just compared; the array has no alignment.
        Some(unsafe { *(at as *const [u8; N]) })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.context.len() as usize
    }

    #[inline(always)]
    fn vlan(&self) -> bool {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.context.skb.skb).vlan_present != 0 }
    }
}

/// The link by which the frame came, or is about to leave.
#[inline(always)]
pub fn ifindex(context: &TcContext) -> u32 {
    // SAFETY: the kernel hands a valid context to the program.
    unsafe { (*context.skb.skb).ifindex }
}

/// Whether the host's own stack made the frame: it came by no link.
#[inline(always)]
pub fn from_host(context: &TcContext) -> bool {
    // SAFETY: the kernel hands a valid context to the program.
    unsafe { (*context.skb.skb).ingress_ifindex == 0 }
}

/// Hands the frame to the peer of the link `ifindex`, in the peer's namespace.
///
/// The packet type is set too, because before Linux 6.15 the redirection
/// leaves it as it is, and a bridge's port receives frames for "other hosts".
#[inline(always)]
pub fn hand_to_peer(context: &TcContext, ifindex: u32) -> i32 {
    let skb: *mut __sk_buff = context.skb.skb;
    // SAFETY: a helper call on the program's own context.
    unsafe { bpf_skb_change_type(skb, PACKET_HOST) };
    // SAFETY: a helper call with plain integers.
    unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
}

const PACKET_HOST: u32 = 0;
