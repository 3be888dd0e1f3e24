//! The records of the maps. Integers only, no padding left to chance.

/// What the kernel knows of one sandbox; all zero when the slot is free.
///
/// Unused places of [`Sandbox::v4`] and [`Sandbox::v6`] are zero, and no rule
/// ever matches a zero address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The host side of the sandbox's link; 0 when the slot is free.
    pub ifindex: u32,
    /// Tells this use of the slot from every other.
    pub epoch: u32,
    /// The hardware address that the sandbox must use.
    pub mac: [u8; 6],
    /// The hardware address that the sandbox takes for its gateway's.
    pub gateway_mac: [u8; 6],
    /// Bits of [`flags`].
    pub flags: u32,
    /// The IPv4 addresses that it may use, in the packet's byte order.
    pub v4: [[u8; 4]; Self::ADDRESSES],
    /// The IPv6 addresses that it may use.
    pub v6: [[u8; 16]; Self::ADDRESSES],
    /// The inode of the sandbox's network namespace; 0 when it is not known.
    pub netns_inode: u64,
}

impl Sandbox {
    /// How many addresses of each family a sandbox may have.
    pub const ADDRESSES: usize = 4;

    /// A free slot.
    pub const FREE: Self = Self {
        ifindex: 0,
        epoch: 0,
        mac: [0; 6],
        gateway_mac: [0; 6],
        flags: 0,
        v4: [[0; 4]; Self::ADDRESSES],
        v6: [[0; 16]; Self::ADDRESSES],
        netns_inode: 0,
    };

    /// Whether all bits of `flags` are set.
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether the sandbox may send from this address.
    #[inline(always)]
    pub fn owns_v4(&self, address: [u8; 4]) -> bool {
        let wanted = u32::from_ne_bytes(address);
        wanted != 0
            && (u32::from_ne_bytes(self.v4[0]) == wanted
                || u32::from_ne_bytes(self.v4[1]) == wanted
                || u32::from_ne_bytes(self.v4[2]) == wanted
                || u32::from_ne_bytes(self.v4[3]) == wanted)
    }

    /// Whether the sandbox may send from this address.
    #[inline(always)]
    pub fn owns_v6(&self, address: &[u8; 16]) -> bool {
        let wanted = halves(address);
        wanted != (0, 0)
            && (halves(&self.v6[0]) == wanted
                || halves(&self.v6[1]) == wanted
                || halves(&self.v6[2]) == wanted
                || halves(&self.v6[3]) == wanted)
    }
}

/// The address as two integers: cheap to compare without a loop.
#[inline(always)]
pub(crate) fn halves(address: &[u8; 16]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    (
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    )
}

/// The bits of [`Sandbox::flags`].
pub mod flags {
    /// A daemon serves this sandbox: new connections and DNS go to the gate.
    pub const ADMITTED: u32 = 1;
    /// Connections that the host opens to the sandbox are let through.
    pub const INBOUND: u32 = 2;
    /// The daemon made the link, and deletes it in the end.
    pub const OWN_LINK: u32 = 4;
}

/// A connection that the host opened to a sandbox, as the sandbox's answers show it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The link of the sandbox.
    pub ifindex: u32,
    /// The host's port, in the packet's byte order.
    pub host_port_be: u16,
    /// The sandbox's port, in the packet's byte order.
    pub sandbox_port_be: u16,
    /// The host's address, IPv4 in its first four bytes.
    pub host: [u8; 16],
    /// The sandbox's address, IPv4 in its first four bytes.
    pub sandbox: [u8; 16],
}

/// The places of the map of listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Listener {
    /// All TCP over IPv4.
    Tcp4 = 0,
    /// All TCP over IPv6.
    Tcp6 = 1,
    /// DNS by UDP over IPv4.
    Udp4 = 2,
    /// DNS by UDP over IPv6.
    Udp6 = 3,
}

/// The size of the map of listening sockets.
pub const LISTENERS: u32 = 4;

const _: () = assert!(size_of::<Sandbox>() == 112 && align_of::<Sandbox>() == 8);
const _: () = assert!(size_of::<Flow>() == 40 && align_of::<Flow>() == 4);
