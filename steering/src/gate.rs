//! The gate: a network namespace of the daemon's own, joined to the host by a
//! veth pair without addresses.
//!
//! What comes in by `gate0` is local, whatever its destination; what goes out
//! leaves by `gate0` to a neighbour that is never asked for. The host gets one
//! link and nothing else: no address, route, rule or sysctl.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
};

use ersatz_ebpf_common::{GATE_MAC, HOST_MAC};

use crate::{
    SteeringError,
    error::path,
    instance::Instance,
    link::{End, Netlink},
    mount, netns,
};

pub(crate) struct Gate {
    /// The namespace.
    pub(crate) namespace: File,
    /// The host's end of the veth pair.
    pub(crate) ifindex: u32,
}

impl Gate {
    /// Opens the gate that an earlier process left, or makes it.
    pub(crate) fn open(instance: &Instance) -> Result<Self, SteeringError> {
        if let Some(gate) = Self::left(instance)? {
            return Ok(gate);
        }
        Self::remove(instance)?;
        Self::make(instance)
    }

    /// Removes the pair, by its host's end, and the namespace.
    pub(crate) fn remove(instance: &Instance) -> Result<(), SteeringError> {
        let netlink = Netlink::open()?;
        if let Some(index) = netlink.index(&instance.name().gate_link())? {
            netlink.delete(index)?;
        }
        mount::unmount(&instance.gate())
    }

    fn left(instance: &Instance) -> Result<Option<Self>, SteeringError> {
        let file = instance.gate();
        if !mount::has_namespace(&file) {
            return Ok(None);
        }
        let Some(ifindex) = Netlink::open()?.index(&instance.name().gate_link())? else {
            return Ok(None);
        };
        let namespace = File::open(&file).map_err(path("open", &file))?;
        let whole = netns::inside(namespace.as_fd(), || {
            Ok(Netlink::open()?.index(GATE)?.is_some())
        })?;
        Ok(whole.then_some(Self { namespace, ifindex }))
    }

    fn make(instance: &Instance) -> Result<Self, SteeringError> {
        let file = instance.gate();
        netns::inside_new(|| mount::keep_namespace(&file))?;
        let namespace = File::open(&file).map_err(path("open", &file))?;
        let netlink = Netlink::open()?;
        let name = instance.name().gate_link();
        let here = End {
            name: &name,
            mac: HOST_MAC,
        };
        let there = End {
            name: GATE,
            mac: GATE_MAC,
        };
        let ifindex = netlink.add_veth(&here, &there, namespace.as_fd())?;
        netlink.silence(ifindex, &name)?;
        netlink.up(ifindex)?;
        netns::inside(namespace.as_fd(), furnish)?;
        Ok(Self { namespace, ifindex })
    }
}

/// Sets the inside of the gate up.
fn furnish() -> Result<(), SteeringError> {
    let netlink = Netlink::open()?;
    let Some(gate) = netlink.index(GATE)? else {
        return Err(SteeringError::System {
            action: "find the gate's own end",
            source: std::io::ErrorKind::NotFound.into(),
        });
    };
    netlink.up(LOOPBACK)?;
    netlink.no_arp(gate)?;
    netlink.up(gate)?;
    netlink.add_local_delivery(GATE, LOOPBACK)?;
    netlink.add_neighbour(gate, IpAddr::V4(BACK_V4), HOST_MAC)?;
    netlink.add_neighbour(gate, IpAddr::V6(BACK_V6), HOST_MAC)?;
    netlink.add_default_routes(gate, BACK_V4, BACK_V6)?;
    netlink.wait_for_link(gate)
}

const GATE: &str = "gate0";
/// The loopback link has this index in every namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// Next hops in name only: the neighbour entries stand for them.
const BACK_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const BACK_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
