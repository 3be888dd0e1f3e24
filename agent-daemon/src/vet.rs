//! Which addresses the daemon may dial for a sandbox.
//!
//! The daemon dials from the node's own namespace, so this check is all that
//! keeps a sandbox from the node's services, its neighbours' networks and the
//! metadata services of clouds: no firewall stands behind it. Every address is
//! checked just before it is dialled, whatever it came from: a name's answer,
//! `/etc/hosts`, a rule that names a range.
//!
//! An address is public, or private (openable by `allowPrivate`), or loopback
//! (openable only by a block that lies within loopback), or never dialled.
//! Whatever is assigned to the node itself is never dialled, public or not.
//! The ranges are those of IANA's special-purpose registries for IPv4 and IPv6.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ersatz_policy::{Cidr, Reason};
use ipnet::{Ipv4Net, Ipv6Net};
use lru::LruCache;

/// Decides whether an address may be dialled.
pub struct Vet {
    allow_private: Vec<Cidr>,
    is_local: fn(IpAddr) -> bool,
    local: Mutex<LruCache<IpAddr, (Instant, bool)>>,
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A private range that `allowPrivate` does not open.
    #[error("the address is in a private range that is not opened")]
    Private,
    /// The loopback range, not opened by a block within loopback.
    #[error("the address is a loopback address")]
    Loopback,
    /// Link-local; most metadata services live here too.
    #[error("the address is link-local")]
    LinkLocal,
    /// A metadata or platform service of a cloud.
    #[error("the address is a metadata service")]
    Metadata,
    /// Multicast or broadcast.
    #[error("the address is a multicast or broadcast address")]
    Multicast,
    /// Not an address that anything can be reached at: unspecified, documentation, benchmarking, reserved, not global unicast.
    #[error("the address is in a reserved range")]
    Reserved,
    /// A tunnel or transition mechanism that wraps another address.
    #[error("the address wraps another one by a transition mechanism")]
    Transition,
    /// Assigned to this node.
    #[error("the address belongs to the node itself")]
    Local,
}

impl Vet {
    /// Makes a check which opens the private ranges that `allow_private` covers.
    pub fn new(allow_private: impl IntoIterator<Item = Cidr>) -> Self {
        Self::with_local(allow_private, ersatz_steering::vet::is_local)
    }

    fn with_local(
        allow_private: impl IntoIterator<Item = Cidr>,
        is_local: fn(IpAddr) -> bool,
    ) -> Self {
        Self {
            allow_private: allow_private.into_iter().collect(),
            is_local,
            local: Mutex::new(LruCache::new(LOCAL_ENTRIES)),
        }
    }

    /// Tells whether `addr` may be dialled now.
    ///
    /// The answer holds for this moment: addresses of the node come and go, so
    /// it is asked before each dialling and never kept.
    pub fn check(&self, addr: IpAddr) -> Result<(), Forbidden> {
        let addr = addr.to_canonical();
        match classify(addr) {
            Class::Public => {}
            Class::Translated(inner) => return self.check(IpAddr::V4(inner)),
            Class::Private if self.opens(addr) => {}
            Class::Private => return Err(Forbidden::Private),
            // Loopback is local by nature: whoever lists it means the node's own services.
            Class::Loopback if self.opens_loopback(addr) => return Ok(()),
            Class::Loopback => return Err(Forbidden::Loopback),
            Class::Never(why) => return Err(why),
        }
        if self.local_to_node(addr) {
            return Err(Forbidden::Local);
        }
        Ok(())
    }

    fn opens(&self, addr: IpAddr) -> bool {
        self.allow_private.iter().any(|block| block.contains(addr))
    }

    /// A wide block such as `126.0.0.0/7` must not open loopback by accident: the whole block has to be loopback.
    fn opens_loopback(&self, addr: IpAddr) -> bool {
        let least = if addr.is_ipv4() { 8 } else { 128 };
        self.allow_private
            .iter()
            .any(|block| block.contains(addr) && block.prefix() >= least)
    }

    fn local_to_node(&self, addr: IpAddr) -> bool {
        let now = Instant::now();
        let known = self.lock().get(&addr).copied();
        if let Some((until, local)) = known
            && now < until
        {
            return local;
        }
        let local = (self.is_local)(addr);
        self.lock().put(addr, (now + LOCAL_KEPT, local));
        local
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<IpAddr, (Instant, bool)>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forbidden {
    /// The reason that the sandbox is told; which range it was stays in the audit record.
    pub fn reason(self) -> Reason {
        Reason::AddressForbidden
    }
}

/// How long it is believed that an address is the node's own, or is not.
const LOCAL_KEPT: Duration = Duration::from_secs(1);

/// Addresses remembered, of all sandboxes: a cache that saves two system calls, no more.
const LOCAL_ENTRIES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

#[derive(Debug, PartialEq, Eq)]
enum Class {
    Public,
    Private,
    Loopback,
    /// NAT64: the packet ends at this IPv4 address.
    Translated(Ipv4Addr),
    Never(Forbidden),
}

fn classify(addr: IpAddr) -> Class {
    match addr {
        IpAddr::V4(addr) => classify_v4(addr),
        IpAddr::V6(addr) => classify_v6(addr),
    }
}

fn classify_v4(addr: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&addr) {
        return Class::Never(Forbidden::Metadata);
    }
    if addr.is_loopback() {
        return Class::Loopback;
    }
    match RANGES_V4.iter().find(|(net, _)| net.contains(&addr)) {
        Some((_, None)) => Class::Private,
        Some((_, Some(why))) => Class::Never(*why),
        None => Class::Public,
    }
}

fn classify_v6(addr: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&addr) {
        return Class::Never(Forbidden::Metadata);
    }
    if addr.is_loopback() {
        return Class::Loopback;
    }
    if NAT64.contains(&addr) {
        let [.., a, b, c, d] = addr.octets();
        return Class::Translated(Ipv4Addr::new(a, b, c, d));
    }
    match RANGES_V6.iter().find(|(net, _)| net.contains(&addr)) {
        Some((_, None)) => Class::Private,
        Some((_, Some(why))) => Class::Never(*why),
        None if GLOBAL_V6.contains(&addr) => Class::Public,
        None => Class::Never(Forbidden::Reserved),
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

const fn v6(head: [u16; 4], len: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), len)
}

/// Services of clouds that live outside of link-local addresses.
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Azure, GCP, OpenStack, Hetzner, DigitalOcean
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
    Ipv4Addr::new(168, 63, 129, 16),   // Azure's platform address, public by its number
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
];

const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS pod identity
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // Oracle
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // GCP
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),   // Scaleway
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // OpenStack
];

/// `None` is private; the first match counts. Loopback and metadata were seen before.
const RANGES_V4: &[(Ipv4Net, Option<Forbidden>)] = &[
    (v4(0, 0, 0, 0, 8), Some(Forbidden::Reserved)), // "this network", RFC 791; 0.0.0.0 is the node itself on Linux
    (v4(10, 0, 0, 0, 8), None),                     // RFC 1918
    (v4(100, 64, 0, 0, 10), None),                  // shared address space, RFC 6598
    (v4(169, 254, 0, 0, 16), Some(Forbidden::LinkLocal)), // RFC 3927
    (v4(172, 16, 0, 0, 12), None),                  // RFC 1918
    (v4(192, 0, 0, 0, 24), Some(Forbidden::Reserved)), // protocol assignments, RFC 6890
    (v4(192, 0, 2, 0, 24), Some(Forbidden::Reserved)), // documentation, RFC 5737
    (v4(192, 88, 99, 0, 24), Some(Forbidden::Transition)), // 6to4 relays, RFC 7526
    (v4(192, 168, 0, 0, 16), None),                 // RFC 1918
    (v4(198, 18, 0, 0, 15), Some(Forbidden::Reserved)), // benchmarking, RFC 2544; our own synthetic addresses
    (v4(198, 51, 100, 0, 24), Some(Forbidden::Reserved)), // documentation, RFC 5737
    (v4(203, 0, 113, 0, 24), Some(Forbidden::Reserved)), // documentation, RFC 5737
    (v4(224, 0, 0, 0, 4), Some(Forbidden::Multicast)),  // RFC 5771
    (v4(255, 255, 255, 255, 32), Some(Forbidden::Multicast)), // limited broadcast, RFC 919
    (v4(240, 0, 0, 0, 4), Some(Forbidden::Reserved)),   // RFC 1112; identities in the gate
];

/// The well-known prefix of NAT64, RFC 6052: what counts is the IPv4 address at its end.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

/// All that is given out as global unicast, RFC 4291; what is not here and not named below is not dialled.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

const RANGES_V6: &[(Ipv6Net, Option<Forbidden>)] = &[
    (v6([0, 0, 0, 0], 96), Some(Forbidden::Transition)), // unspecified and IPv4-compatible, RFC 4291
    (v6([0x64, 0xff9b, 1, 0], 48), None),                // NAT64 of a site's own, RFC 8215
    (v6([0x100, 0, 0, 0], 64), Some(Forbidden::Reserved)), // discard, RFC 6666
    (v6([0x2001, 0, 0, 0], 32), Some(Forbidden::Transition)), // Teredo, RFC 4380
    (v6([0x2001, 0, 0, 0], 23), Some(Forbidden::Reserved)), // protocol assignments, RFC 2928
    (v6([0x2001, 0xdb8, 0, 0], 32), Some(Forbidden::Reserved)), // documentation, RFC 3849
    (v6([0x2002, 0, 0, 0], 16), Some(Forbidden::Transition)), // 6to4, RFC 3056
    (v6([0x3fff, 0, 0, 0], 20), Some(Forbidden::Reserved)), // documentation, RFC 9637
    (v6([0x5f00, 0, 0, 0], 16), Some(Forbidden::Reserved)), // segment routing, RFC 9602
    (v6([0xfd00, 0xe25a, 0, 0], 32), Some(Forbidden::Reserved)), // our own: sandboxes and synthetic addresses
    (v6([0xfde7, 0, 0, 0], 16), Some(Forbidden::Reserved)),      // our own: identities in the gate
    (v6([0xfc00, 0, 0, 0], 7), None),                            // unique local, RFC 4193
    (v6([0xfe80, 0, 0, 0], 10), Some(Forbidden::LinkLocal)),     // RFC 4291
    (v6([0xfec0, 0, 0, 0], 10), Some(Forbidden::Reserved)), // site-local, withdrawn by RFC 3879
    (v6([0xff00, 0, 0, 0], 8), Some(Forbidden::Multicast)), // RFC 4291
];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Stands for the kernel: these are the node's own addresses.
    fn scripted_local(addr: IpAddr) -> bool {
        ["10.0.0.5", "93.184.216.1", "2606:2800::1", "fd12::5"]
            .iter()
            .any(|own| own.parse() == Ok(addr))
    }

    fn vet(allow: &[&str]) -> Vet {
        let blocks = allow.iter().map(|net| Cidr::parse(net).expect("a block"));
        Vet::with_local(blocks, scripted_local)
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[rstest]
    #[case::all_private(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"])]
    #[case::nothing(&[])]
    fn never_dials_special_addresses(#[case] allow: &[&str]) {
        use Forbidden::{LinkLocal, Local, Loopback, Metadata, Multicast, Reserved, Transition};
        let vet = vet(allow);
        for (why, addresses) in [
            (
                Reserved,
                &[
                    "0.0.0.0",
                    "0.0.0.1",
                    "0.255.255.255",
                    "192.0.0.0",
                    "192.0.0.8",
                    "192.0.0.170",
                    "192.0.0.255",
                    "192.0.2.1",
                    "192.0.2.255",
                    "198.18.0.0",
                    "198.18.0.1",
                    "198.19.255.255",
                    "198.51.100.1",
                    "203.0.113.77",
                    "240.0.0.1",
                    "247.1.2.3",
                    "255.255.255.254",
                ][..],
            ),
            (
                Reserved,
                &[
                    "100::",
                    "100::1",
                    "2001:1::1",
                    "2001:2::1",
                    "2001:10::1",
                    "2001:20::1",
                    "2001:1ff:ffff::1",
                    "2001:db8::",
                    "2001:db8:ffff::1",
                    "3fff::1",
                    "3fff:fff:ffff::1",
                    "5f00::1",
                    "fd00:e25a::2",
                    "fd00:e25a:5::1",
                    "fde7::1",
                    "fec0::1",
                    "feff::1",
                    "1::1",
                    "400::1",
                    "4000::1",
                    "8000::1",
                    "e000::1",
                    "fbff::1",
                    "::1:0:0:1",
                ],
            ),
            (
                Multicast,
                &[
                    "224.0.0.1",
                    "224.0.0.251",
                    "239.255.255.250",
                    "239.255.255.255",
                    "255.255.255.255",
                    "ff00::",
                    "ff02::1",
                    "ff02::fb",
                    "ff05::1:3",
                    "ffff::1",
                ],
            ),
            (
                LinkLocal,
                &[
                    "169.254.0.0",
                    "169.254.1.1",
                    "169.254.20.10",
                    "169.254.255.255",
                    "fe80::1",
                    "fe80::a9fe:1",
                    "febf:ffff::1",
                ],
            ),
            (
                Metadata,
                &[
                    "169.254.169.254",
                    "169.254.170.2",
                    "169.254.170.23",
                    "169.254.42.42",
                    "168.63.129.16",
                    "100.100.100.200",
                    "192.0.0.192",
                    "fd00:ec2::254",
                    "fd00:ec2::23",
                    "fd20:ce::254",
                    "fd00:c1::a9fe:a9fe",
                    "fd00:42::42",
                    "fe80::a9fe:a9fe",
                ],
            ),
            (
                Metadata,
                &[
                    "::ffff:169.254.169.254",
                    "::ffff:100.100.100.200",
                    "::ffff:168.63.129.16",
                    "64:ff9b::169.254.169.254",
                    "64:ff9b::168.63.129.16",
                    "64:ff9b::a9fe:aa17",
                ],
            ),
            (
                Loopback,
                &[
                    "127.0.0.1",
                    "127.0.0.2",
                    "127.1.2.3",
                    "127.255.255.255",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::ffff:7f00:1",
                    "64:ff9b::127.0.0.1",
                ],
            ),
            (
                Reserved,
                &[
                    "::ffff:0.0.0.0",
                    "::ffff:198.18.0.1",
                    "::ffff:240.0.0.1",
                    "64:ff9b::0.0.0.0",
                    "64:ff9b::203.0.113.1",
                ],
            ),
            (LinkLocal, &["::ffff:169.254.1.1", "64:ff9b::169.254.1.1"]),
            (Multicast, &["::ffff:224.0.0.1", "64:ff9b::255.255.255.255"]),
            (
                Transition,
                &[
                    "::",
                    "::2",
                    "::127.0.0.1",
                    "::8.8.8.8",
                    "::93.184.216.34",
                    "2002::",
                    "2002:7f00:1::1",
                    "2002:a9fe:a9fe::1",
                    "2002:808:808::1",
                    "2001::1",
                    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                    "192.88.99.1",
                ],
            ),
            (
                Local,
                &[
                    "93.184.216.1",
                    "2606:2800::1",
                    "::ffff:93.184.216.1",
                    "64:ff9b::93.184.216.1",
                ],
            ),
        ] {
            for text in addresses {
                assert_eq!(vet.check(addr(text)), Err(why), "{text}");
            }
        }
    }

    const PRIVATE: &[&str] = &[
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.2",
        "100.127.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "192.168.255.255",
        "fc00::1",
        "fd12:3456::1",
        "fdff:ffff::1",
        "64:ff9b:1::1",
        "::ffff:10.0.0.1",
        "::ffff:192.168.1.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::172.16.5.5",
    ];

    #[test]
    fn dials_private_ranges_only_when_opened() {
        let (shut, open) = (
            vet(&[]),
            vet(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]),
        );
        for text in PRIVATE {
            assert_eq!(shut.check(addr(text)), Err(Forbidden::Private), "{text}");
            assert_eq!(open.check(addr(text)), Ok(()), "{text}");
        }
    }

    #[rstest]
    #[case("10.20.0.0/16", "10.20.3.4", Ok(()))]
    #[case("10.20.0.0/16", "10.21.3.4", Err(Forbidden::Private))]
    #[case("10.20.0.0/16", "::ffff:10.20.3.4", Ok(()))]
    #[case("10.0.0.0/8", "10.0.0.5", Err(Forbidden::Local))]
    #[case("10.0.0.5/32", "10.0.0.5", Err(Forbidden::Local))]
    #[case("fd12::/16", "fd12::5", Err(Forbidden::Local))]
    #[case("fd12::/16", "fd12::6", Ok(()))]
    #[case("127.0.0.0/8", "127.0.0.1", Ok(()))]
    #[case("127.0.0.1/32", "127.0.0.1", Ok(()))]
    #[case("127.0.0.1/32", "127.0.0.2", Err(Forbidden::Loopback))]
    #[case("127.0.0.1/32", "::ffff:127.0.0.1", Ok(()))]
    #[case("126.0.0.0/7", "127.0.0.1", Err(Forbidden::Loopback))]
    #[case("::1/128", "::1", Ok(()))]
    #[case("::/127", "::1", Err(Forbidden::Loopback))]
    #[case("169.254.169.254/32", "169.254.169.254", Err(Forbidden::Metadata))]
    #[case("fd00:ec2::/32", "fd00:ec2::254", Err(Forbidden::Metadata))]
    #[case("fd00:ec2::/32", "fd00:ec2::255", Ok(()))]
    #[case("100.64.0.0/10", "100.100.100.200", Err(Forbidden::Metadata))]
    fn opens_what_is_listed_and_no_more(
        #[case] allow: &str,
        #[case] dialled: &str,
        #[case] expected: Result<(), Forbidden>,
    ) {
        assert_eq!(vet(&[allow]).check(addr(dialled)), expected);
    }

    #[test]
    fn dials_public_addresses() {
        let vet = vet(&[]);
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "2400:cb00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2003::1",
            "3ffe::1",
        ] {
            assert_eq!(vet.check(addr(text)), Ok(()), "{text}");
        }
    }

    /// Shapes that other parsers take for addresses are no addresses here: they
    /// can only be names, and what a name stands for is checked.
    #[test]
    fn addresses_have_one_spelling() {
        for text in [
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1.",
            "0x7f.1",
            "::ffff:127.1",
            "fe80::1%eth0",
        ] {
            assert!(text.parse::<IpAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn remembers_no_more_than_its_bound() {
        let vet = vet(&[]);
        for host in 0..3000_u32 {
            let public = Ipv4Addr::from(0x0808_0000 + host);
            assert_eq!(vet.check(public.into()), Ok(()));
        }
        assert_eq!(vet.lock().len(), LOCAL_ENTRIES.get());
    }

    #[test]
    fn asks_the_kernel_what_is_local() {
        let vet = Vet::new([]);
        assert!(vet.local_to_node(addr("127.0.0.1")));
        assert!(vet.local_to_node(addr("::1")));
        assert!(!vet.local_to_node(addr("1.1.1.1")));
    }
}
