//! Links, addresses, routes and rules, by netlink, in the namespace of the
//! calling thread.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, BorrowedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection,
    packet_route::{
        address::AddressHeaderFlags,
        link::{
            AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute,
            LinkMessage, State,
        },
        neighbour::NeighbourState,
        route::{RouteAddress, RouteAttribute, RouteScope, RouteType},
        rule::RuleAction,
    },
};
use rustix::net::netdevice::index_to_name;
use tokio::runtime::Runtime;

use crate::{
    SteeringError,
    error::{netlink, path, system},
};

/// A netlink socket of the calling thread's namespace, with a runtime of its own.
pub(crate) struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

/// One end of a veth pair.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: [u8; 6],
}

/// What all frames of sandboxes must fit into.
pub(crate) const MTU: u32 = 1500;

impl Netlink {
    pub(crate) fn open() -> Result<Self, SteeringError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(system("make a runtime"))?;
        let (connection, handle, _) = {
            let _entered = runtime.enter();
            new_connection().map_err(system("open a netlink socket"))?
        };
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Makes a veth pair, both ends down, the peer in `namespace`; gives this end's index.
    pub(crate) fn add_veth(
        &self,
        here: &End<'_>,
        peer: &End<'_>,
        namespace: BorrowedFd<'_>,
    ) -> Result<u32, SteeringError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer.name)
            .address(peer.mac.to_vec())
            .mtu(MTU)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(
            rtnetlink::packet_route::link::InfoKind::Veth,
        )
        .name(here.name)
        .address(here.mac.to_vec())
        .mtu(MTU)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
        self.runtime
            .block_on(self.handle.link().add(pair).execute())
            .map_err(netlink("make a veth pair"))?;
        self.index(here.name)?.ok_or_else(|| {
            system("find the link just made")(io::Error::from(io::ErrorKind::NotFound))
        })
    }

    /// Makes a host's end silent: no ARP, no multicast, no IPv6 of its own.
    pub(crate) fn silence(&self, index: u32, name: &str) -> Result<(), SteeringError> {
        self.no_arp(index)?;
        let sysctl = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        let sysctl = Path::new(&sysctl);
        if sysctl.exists() {
            fs::write(sysctl, "1").map_err(path("write", sysctl))?;
        }
        Ok(())
    }

    /// Takes ARP, multicast and generated addresses from a link.
    pub(crate) fn no_arp(&self, index: u32) -> Result<(), SteeringError> {
        let link = LinkUnspec::new_with_index(index)
            .arp(false)
            .multicast(false)
            .append_extra_attribute(no_generated_addresses())
            .build();
        self.set(link, "silence a link")
    }

    /// Takes generated addresses from a link.
    pub(crate) fn no_generated_addresses(&self, index: u32) -> Result<(), SteeringError> {
        let link = LinkUnspec::new_with_index(index)
            .append_extra_attribute(no_generated_addresses())
            .build();
        self.set(link, "configure a link")
    }

    pub(crate) fn up(&self, index: u32) -> Result<(), SteeringError> {
        self.set(
            LinkUnspec::new_with_index(index).up().build(),
            "set a link up",
        )
    }

    /// Waits until a link that is up can send. Until the kernel has seen its
    /// carrier and given it a queue, what is sent is lost, and the first
    /// question for a neighbour with it, which is asked again after a second.
    pub(crate) fn wait_for_link(&self, index: u32) -> Result<(), SteeringError> {
        wait("wait for a link to be ready", || self.operational(index))?;
        // The state shows before the queue is there, but both change under the
        // kernel's lock for links, and so a request that takes it comes after both.
        self.up(index)
    }

    /// Waits until an IPv6 address that was added can receive. The kernel
    /// sends from it at once, but adds its local route later, from a work
    /// queue, and drops the answers until then.
    pub(crate) fn wait_for_address(&self, address: Ipv6Addr) -> Result<(), SteeringError> {
        wait("wait for an address to be ready", || self.receives(address))
    }

    fn operational(&self, index: u32) -> Result<bool, SteeringError> {
        let mut found = self.handle.link().get().match_index(index).execute();
        let link = match self.runtime.block_on(found.next()) {
            Some(link) => link.map_err(netlink("look for a link"))?,
            None => return Ok(false),
        };
        let up = LinkAttribute::OperState(State::Up);
        Ok(link.attributes.contains(&up))
    }

    fn receives(&self, address: Ipv6Addr) -> Result<bool, SteeringError> {
        let local = RouteAttribute::Destination(RouteAddress::Inet6(address));
        let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut routes = self.handle.route().get(all).execute();
        self.runtime.block_on(async {
            while let Some(route) = routes.next().await {
                let route = route.map_err(netlink("list the routes"))?;
                if route.header.kind == RouteType::Local && route.attributes.contains(&local) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// The index of a link; `None` if there is none of this name.
    pub(crate) fn index(&self, name: &str) -> Result<Option<u32>, SteeringError> {
        let mut found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match self.runtime.block_on(found.next()) {
            Some(Ok(link)) => Ok(Some(link.header.index)),
            None => Ok(None),
            Some(Err(error)) if absent(&error) => Ok(None),
            Some(Err(error)) => Err(netlink("look for a link")(error)),
        }
    }

    /// Names and indices of all links.
    pub(crate) fn links(&self) -> Result<Vec<(String, u32)>, SteeringError> {
        let mut found = self.handle.link().get().execute();
        self.runtime.block_on(async {
            let mut links = Vec::new();
            while let Some(link) = found.next().await {
                let link = link.map_err(netlink("list the links"))?;
                if let Some(name) = name(&link) {
                    links.push((name, link.header.index));
                }
            }
            Ok(links)
        })
    }

    /// Deletes a link; none is no error.
    pub(crate) fn delete(&self, index: u32) -> Result<(), SteeringError> {
        match self
            .runtime
            .block_on(self.handle.link().del(index).execute())
        {
            Err(error) if !absent(&error) => Err(netlink("delete a link")(error)),
            _ => Ok(()),
        }
    }

    /// Adds an address; an IPv6 one without asking whether it is free.
    pub(crate) fn add_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), SteeringError> {
        let mut request = self.handle.address().add(index, address, prefix).replace();
        if address.is_ipv6() {
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        }
        self.runtime
            .block_on(request.execute())
            .map_err(netlink("add an address"))
    }

    /// A neighbour that is never asked for.
    pub(crate) fn add_neighbour(
        &self,
        index: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), SteeringError> {
        let request = self
            .handle
            .neighbours()
            .add(index, address)
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace();
        self.runtime
            .block_on(request.execute())
            .map_err(netlink("add a neighbour"))
    }

    /// Default routes of both families, by gateways that are on the link whatever their addresses.
    pub(crate) fn add_default_routes(
        &self,
        index: u32,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
    ) -> Result<(), SteeringError> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(v4)
            .output_interface(index)
            .onlink()
            .build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(v6)
            .output_interface(index)
            .onlink()
            .build();
        for route in [v4, v6] {
            self.runtime
                .block_on(self.handle.route().add(route).replace().execute())
                .map_err(netlink("add a default route"))?;
        }
        Ok(())
    }

    /// "All that comes in by this link is for us", in both families.
    pub(crate) fn add_local_delivery(
        &self,
        input: &str,
        loopback: u32,
    ) -> Result<(), SteeringError> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(LOCAL_DELIVERY)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .output_interface(loopback)
            .build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .table_id(LOCAL_DELIVERY)
            .kind(RouteType::Local)
            .output_interface(loopback)
            .build();
        let rule = || {
            self.handle
                .rule()
                .add()
                .input_interface(input)
                .table_id(LOCAL_DELIVERY)
                .priority(LOCAL_DELIVERY)
                .action(RuleAction::ToTable)
        };
        for route in [v4, v6] {
            self.runtime
                .block_on(self.handle.route().add(route).execute())
                .map_err(netlink("add the route of local delivery"))?;
        }
        let rules = [rule().v4().execute().boxed(), rule().v6().execute().boxed()];
        for rule in rules {
            self.runtime
                .block_on(rule)
                .map_err(netlink("add the rule of local delivery"))?;
        }
        Ok(())
    }

    fn set(&self, link: LinkMessage, action: &'static str) -> Result<(), SteeringError> {
        self.runtime
            .block_on(self.handle.link().set(link).execute())
            .map_err(netlink(action))
    }
}

/// The name of a link of the calling thread's namespace; an error if there is none.
pub(crate) fn name_of(ifindex: u32) -> Result<String, SteeringError> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(system("make a socket"))?;
    index_to_name(&socket, ifindex).map_err(system("find a link"))
}

/// Asks until the answer is yes.
fn wait(
    action: &'static str,
    ready: impl Fn() -> Result<bool, SteeringError>,
) -> Result<(), SteeringError> {
    let give_up = Instant::now() + READY_WITHIN;
    while !ready()? {
        if Instant::now() > give_up {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Err(system(action)(late));
        }
        thread::sleep(READY_POLL);
    }
    Ok(())
}

/// The name in a link message.
pub(crate) fn name(link: &LinkMessage) -> Option<String> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
}

fn no_generated_addresses() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

/// Whether an error says that the link is not there.
fn absent(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return false;
    };
    message.to_io().raw_os_error() == Some(nix::libc::ENODEV)
}

/// The kernel's own work queue does it in a millisecond, or in a second when it is busy.
const READY_WITHIN: Duration = Duration::from_secs(5);
const READY_POLL: Duration = Duration::from_micros(500);
/// The number of the gate's extra routing table, and the priority of its rule.
const LOCAL_DELIVERY: u32 = 100;
