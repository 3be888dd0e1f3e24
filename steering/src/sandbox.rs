//! Putting a sandbox behind the gate, and taking it away again.
//!
//! The order matters: the record is written, the programs are attached and
//! pinned, and only then does a link of ours come up. On the way back a link
//! of ours goes first.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, OwnedFd},
};

use ersatz_ebpf_common::{Sandbox, flags, synthetic_v4, synthetic_v6};

use crate::{
    Enrolled, SandboxId, SteeringError,
    gate::LOOPBACK,
    link::{End, Netlink, name_of},
    netns,
    programs::Programs,
    steering::Inner,
};

/// What to do about a sandbox that an earlier process of the instance left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// The namespace is a new sandbox.
    Never,
    /// Should the namespace be known, the link and the identity stay as they are.
    IfKnown,
}

/// What is known for certain about the sandbox on an existing link.
#[derive(Clone, Debug)]
pub struct LinkPins {
    /// The hardware address of the sandbox's end.
    pub mac: [u8; 6],
    /// Its IPv4 addresses, at most four.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses, at most four; link-local ones need no mention.
    pub v6: Vec<Ipv6Addr>,
    /// What it shall take for the hardware address of its gateway.
    pub gateway_mac: [u8; 6],
}

impl Inner {
    /// Makes a link for the namespace, or adopts the one that it has.
    pub(crate) fn enrol_netns(
        &self,
        netns: &OwnedFd,
        adopt: Adopt,
        register: impl FnOnce(SandboxId),
    ) -> Result<Enrolled, SteeringError> {
        let mut programs = self.programs();
        let inode = netns::inode(netns)?;
        if inode == netns::inode(netns::own()?)? {
            return Err(SteeringError::System {
                action: "enrol the node's own namespace",
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        let left = self.table().left_in(inode);
        let adopted = left.filter(|_| adopt == Adopt::IfKnown);
        let (id, record) = if let Some(left) = adopted {
            left
        } else {
            let id = self.table_mut().allocate()?;
            let record = self
                .make_link(&mut programs, id, netns, inode)
                .inspect_err(|_| self.discard(&mut programs, id))?;
            (id, record)
        };
        // From here on its connections have a name, and then they may come.
        self.table_mut().serve(id, record);
        register(id);
        self.admit(&mut programs, id, record, adopted.is_some())
    }

    /// Takes a link that somebody else made.
    pub(crate) fn enrol_link(
        &self,
        ifindex: u32,
        pins: &LinkPins,
    ) -> Result<Enrolled, SteeringError> {
        let mut programs = self.programs();
        let wanted = pinned(ifindex, pins)?;
        match self.table().on_link(ifindex) {
            Some((id, record, false)) if same(&record, &wanted) => {
                return self.admit(&mut programs, id, record, true);
            }
            Some((_, _, true)) => {
                return Err(SteeringError::System {
                    action: "enrol a link that has a sandbox",
                    source: std::io::ErrorKind::AlreadyExists.into(),
                });
            }
            Some((id, _, false)) => self.discard(&mut programs, id),
            None => {}
        }
        let id = self.table_mut().allocate()?;
        let record = Sandbox {
            epoch: id.epoch,
            ..wanted
        };
        distinguishable(id, &record)
            .and_then(|()| programs.write(id, record))
            .and_then(|()| programs.attach_sandbox(ifindex))
            .and_then(|()| self.admit(&mut programs, id, record, false))
            .inspect_err(|_| self.discard(&mut programs, id))
    }

    /// Ends a sandbox whose connections the caller has closed.
    pub(crate) fn remove(&self, id: SandboxId) -> Result<(), SteeringError> {
        let mut programs = self.programs();
        let Some(record) = self.table().record(id) else {
            return Ok(());
        };
        if record.has(flags::OWN_LINK) {
            Netlink::open()?.delete(record.ifindex)?;
        }
        self.forget(&mut programs, id, record.ifindex)
    }

    /// Frees what belongs to a sandbox whose link is gone. Should the link of
    /// somebody else still be there, its programs stay and drop everything.
    pub(crate) fn forget(
        &self,
        programs: &mut Programs,
        id: SandboxId,
        ifindex: u32,
    ) -> Result<(), SteeringError> {
        if name_of(ifindex).is_err() {
            programs.forget(ifindex);
        }
        let erased = programs.erase(id, ifindex);
        self.table_mut().release(id);
        erased
    }

    fn make_link(
        &self,
        programs: &mut Programs,
        id: SandboxId,
        netns: &OwnedFd,
        inode: u64,
    ) -> Result<Sandbox, SteeringError> {
        let netlink = Netlink::open()?;
        let name = self.instance_name().sandbox_link(id.slot);
        let here = End {
            name: &name,
            mac: GATEWAY_MAC,
        };
        let there = End {
            name: SANDBOX_LINK,
            mac: SANDBOX_MAC,
        };
        let ifindex = netlink.add_veth(&here, &there, netns.as_fd())?;
        netlink.silence(ifindex, &name)?;
        let mut record = pinned(ifindex, &own_pins())?;
        record.epoch = id.epoch;
        record.flags = flags::OWN_LINK;
        record.netns_inode = inode;
        programs.write(id, record)?;
        programs.attach_sandbox(ifindex)?;
        netlink.up(ifindex)?;
        netns::inside(netns.as_fd(), furnish)?;
        Ok(record)
    }

    /// From now on this process serves the sandbox.
    fn admit(
        &self,
        programs: &mut Programs,
        id: SandboxId,
        mut record: Sandbox,
        adopted: bool,
    ) -> Result<Enrolled, SteeringError> {
        record.flags |= flags::ADMITTED;
        self.table_mut().serve(id, record);
        programs.write(id, record)?;
        Ok(Enrolled {
            id,
            ifindex: record.ifindex,
            adopted,
        })
    }

    /// Undoes an enrolment that failed half way.
    fn discard(&self, programs: &mut Programs, id: SandboxId) {
        let name = self.instance_name().sandbox_link(id.slot);
        let ifindex = programs.link_of(id);
        let undone = Netlink::open().and_then(|netlink| match netlink.index(&name)? {
            Some(index) => netlink.delete(index),
            None => Ok(()),
        });
        let undone = undone.and_then(|()| self.forget(programs, id, ifindex));
        if let Err(error) = undone {
            tracing::warn!(%error, sandbox = %id, "could not undo a failed enrolment");
        }
    }
}

/// Sets the inside of a sandbox up: the same in every sandbox.
fn furnish() -> Result<(), SteeringError> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.index(SANDBOX_LINK)? else {
        return Err(SteeringError::System {
            action: "find the sandbox's own end",
            source: std::io::ErrorKind::NotFound.into(),
        });
    };
    netlink.up(LOOPBACK)?;
    netlink.no_generated_addresses(link)?;
    netlink.up(link)?;
    netlink.add_address(link, IpAddr::V4(SANDBOX_V4), 32)?;
    netlink.add_address(link, IpAddr::V6(SANDBOX_V6), 128)?;
    netlink.add_address(link, IpAddr::V6(SANDBOX_LINK_LOCAL), 64)?;
    netlink.add_default_routes(link, GATEWAY_V4, GATEWAY_V6)?;
    netlink.wait_for_link(link)?;
    netlink.wait_for_address(SANDBOX_V6)
}

fn own_pins() -> LinkPins {
    LinkPins {
        mac: SANDBOX_MAC,
        v4: vec![SANDBOX_V4],
        v6: vec![SANDBOX_V6],
        gateway_mac: GATEWAY_MAC,
    }
}

/// The record of a link, still without epoch and admission.
fn pinned(ifindex: u32, pins: &LinkPins) -> Result<Sandbox, SteeringError> {
    let mut record = Sandbox {
        ifindex,
        mac: pins.mac,
        gateway_mac: pins.gateway_mac,
        flags: flags::INBOUND,
        ..Sandbox::FREE
    };
    if pins.v4.len() > Sandbox::ADDRESSES || pins.v6.len() > Sandbox::ADDRESSES {
        return Err(SteeringError::Addresses);
    }
    for (place, address) in record.v4.iter_mut().zip(&pins.v4) {
        *place = address.octets();
    }
    for (place, address) in record.v6.iter_mut().zip(&pins.v6) {
        *place = address.octets();
    }
    Ok(record)
}

/// Whether no two addresses of the sandbox become the same synthetic one.
fn distinguishable(id: SandboxId, record: &Sandbox) -> Result<(), SteeringError> {
    let used = |address: &&[u8; 4]| **address != [0; 4];
    let v4: Vec<_> = record.v4.iter().filter(used).collect();
    let v6: Vec<_> = record
        .v6
        .iter()
        .filter(|address| **address != [0; 16])
        .collect();
    let mut synthetic: Vec<IpAddr> = v4
        .iter()
        .map(|real| IpAddr::from(synthetic_v4(id.slot, **real)))
        .chain(
            v6.iter()
                .map(|real| IpAddr::from(synthetic_v6(id.slot, id.epoch, real))),
        )
        .collect();
    synthetic.sort_unstable();
    synthetic.dedup();
    if synthetic.len() == v4.len() + v6.len() {
        Ok(())
    } else {
        Err(SteeringError::Addresses)
    }
}

/// Whether a record that was left is of the same sandbox.
fn same(left: &Sandbox, wanted: &Sandbox) -> bool {
    left.mac == wanted.mac
        && left.gateway_mac == wanted.gateway_mac
        && left.v4 == wanted.v4
        && left.v6 == wanted.v6
}

/// The sandbox's end of a link that we make.
const SANDBOX_LINK: &str = "eth0";
const SANDBOX_MAC: [u8; 6] = [0x02, 0xe7, 0, 0, 1, 2];
const GATEWAY_MAC: [u8; 6] = [0x02, 0xe7, 0, 0, 1, 1];
const SANDBOX_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const SANDBOX_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xe25a, 0, 0, 0, 0, 0, 2);
const SANDBOX_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_addresses_that_become_one() {
        let id = SandboxId { slot: 3, epoch: 9 };
        for (addresses, accepted) in [
            (vec!["10.0.0.1", "10.0.0.2"], true),
            // The words are swapped: the same one's complement sum.
            (vec!["10.1.0.2", "0.2.10.1"], false),
            (vec!["10.0.0.1", "10.0.0.1"], false),
        ] {
            let pins = LinkPins {
                v4: addresses
                    .iter()
                    .map(|text| text.parse().expect("an address"))
                    .collect(),
                ..own_pins()
            };
            let record = pinned(7, &pins).expect("few enough");
            assert_eq!(
                distinguishable(id, &record).is_ok(),
                accepted,
                "{addresses:?}"
            );
        }
        let five = LinkPins {
            v4: vec![Ipv4Addr::new(10, 0, 0, 1); 5],
            ..own_pins()
        };
        assert!(matches!(pinned(7, &five), Err(SteeringError::Addresses)));
    }
}
