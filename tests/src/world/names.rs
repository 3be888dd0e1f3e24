//! The names of the world, and the address that each of them has.
//!
//! Every name has an IPv4 and an IPv6 address of its own out of two prefixes
//! that are routed to the world; its servers tell by the address they were
//! reached at, and by the name that the client gave, who was meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ports of the HTTPS servers.
pub const TLS_PORTS: [u16; 2] = [443, 8443];
/// A service that echoes what it gets, as an opaque TCP protocol.
pub const ECHO_PORT: u16 = 5432;
/// A service that speaks first: it says which address was dialled, then echoes.
pub const GREETING_PORT: u16 = 5433;

/// The prefixes of the world, as routes want them.
pub const PREFIX_V4: &str = "10.213.0.0/17";
/// See [`PREFIX_V4`].
pub const PREFIX_V6: &str = "fdd5:213:1::/64";
/// The link between the node and the world.
pub const LINK_NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 213, 255, 1);
/// See [`LINK_NODE_V4`]; the world's name server listens here.
pub const LINK_WORLD_V4: Ipv4Addr = Ipv4Addr::new(10, 213, 255, 2);
/// See [`LINK_NODE_V4`].
pub const LINK_NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfdd5, 0x213, 0xffff, 0, 0, 0, 0, 1);
/// See [`LINK_NODE_V4`].
pub const LINK_WORLD_V6: Ipv6Addr = Ipv6Addr::new(0xfdd5, 0x213, 0xffff, 0, 0, 0, 0, 2);

/// Names with servers behind them, in the order of their addresses.
const HOSTS: [&str; 24] = [
    "api.test",
    "git.test",
    "models.test",
    "open.test",
    "evil.test",
    "pass.test",
    "db.test",
    "h1.test",
    "expired.test",
    "future.test",
    "selfsigned.test",
    "wrongname.test",
    "unknownca.test",
    "other.test",
    "a.wild.test",
    "b.wild.test",
    "deep.a.wild.test",
    "events.test",
    "registry.test",
    "api.anthropic.com",
    "api.openai.com",
    "chatgpt.com",
    "auth.openai.com",
    "statsig.anthropic.com",
];

/// `h0.many.test` to `h1023.many.test`: for tests that want many names.
const MANY: u16 = 1024;

/// Where a name points; `None` is NXDOMAIN.
pub fn addresses(name: &str) -> Option<Vec<IpAddr>> {
    if let Some(number) = number(name) {
        return Some(pair(number));
    }
    let special: &[IpAddr] = match name {
        "node.test" => &[IpAddr::V4(LINK_NODE_V4), IpAddr::V6(LINK_NODE_V6)],
        "loopback.test" => &[
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ],
        "metadata.test" => &[IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))],
        "private.test" => &[IpAddr::V4(Ipv4Addr::new(192, 168, 7, 7))],
        "mapped.test" => &[IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())],
        _ => return None,
    };
    Some(special.to_vec())
}

/// The name that an address of the world belongs to.
pub fn name_of(address: IpAddr) -> Option<String> {
    let number = match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [10, 213, high, low] = v4.octets() else {
                return None;
            };
            u16::from_be_bytes([high, low])
        }
        IpAddr::V6(v6) => match v6.segments() {
            [0xfdd5, 0x213, 1, 0, 0, 0, 0, number] => number,
            _ => return None,
        },
    };
    let first_many = number.checked_sub(FIRST_MANY).filter(|index| *index < MANY);
    match first_many {
        Some(index) => Some(format!("h{index}.many.test")),
        None => HOSTS
            .get(usize::from(number).checked_sub(1)?)
            .map(|name| (*name).to_owned()),
    }
}

const FIRST_MANY: u16 = 0x4000;

fn number(name: &str) -> Option<u16> {
    if let Some(index) = HOSTS.iter().position(|host| *host == name) {
        return u16::try_from(index + 1).ok();
    }
    let index = name
        .strip_prefix('h')?
        .strip_suffix(".many.test")?
        .parse::<u16>()
        .ok()?;
    (index < MANY).then_some(FIRST_MANY + index)
}

fn pair(number: u16) -> Vec<IpAddr> {
    let [high, low] = number.to_be_bytes();
    vec![
        IpAddr::V4(Ipv4Addr::new(10, 213, high, low)),
        IpAddr::V6(Ipv6Addr::new(0xfdd5, 0x213, 1, 0, 0, 0, 0, number)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_addresses_that_lead_back_to_it() {
        for name in HOSTS.into_iter().chain(["h0.many.test", "h1023.many.test"]) {
            let addresses = addresses(name).expect("the name has addresses");
            assert_eq!(addresses.len(), 2, "{name}");
            for address in addresses {
                assert_eq!(name_of(address).as_deref(), Some(name));
            }
        }
        assert_eq!(addresses("nowhere.test"), None);
        assert_eq!(addresses("h1024.many.test"), None);
    }
}
