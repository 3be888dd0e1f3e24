//! Addresses that stand for names, one table a sandbox.
//!
//! A sandbox never learns a real address. What it is told instead leads back to
//! the name, so that the name of every later connection is known, also where
//! the protocol does not say it.
//!
//! The place of a name in the ranges is a hash of the name: the same name has
//! the same addresses in every sandbox and after a change of daemon, so that an
//! address that a client kept never comes to mean another name, save for a
//! collision of hashes. A colliding name takes the next free place.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ersatz_policy::Name;
use lru::LruCache;

/// The names that a sandbox has asked for, and the addresses that stand for them.
///
/// Bounded: beyond [`NAMES`] the name that was unused for longest gives way.
pub struct Synthetic {
    table: Mutex<Table>,
}

/// Names remembered a sandbox. A build with every dependency's mirror needs some hundreds.
const NAMES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

impl Synthetic {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::with_bound(NAMES)
    }

    fn with_bound(names: NonZeroUsize) -> Self {
        Self {
            table: Mutex::new(Table {
                places: LruCache::unbounded(),
                names: LruCache::new(names),
            }),
        }
    }

    /// Gives the addresses that stand for `name`: the same ones for as long as the name is in use.
    pub fn assign(&self, name: &Name) -> (Ipv4Addr, Ipv6Addr) {
        addresses(self.lock().place(name))
    }

    /// Tells which name `addr` stands for, and counts as a use of it.
    pub fn name(&self, addr: IpAddr) -> Option<Name> {
        let place = place_of(addr)?;
        self.lock().name(place)
    }

    /// Tells whether `addr` is in the ranges of synthetic addresses, assigned or not.
    pub fn is_synthetic(addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => u32::from(addr) & !PLACE_MASK == V4_BASE,
            IpAddr::V6(addr) => u128::from(addr) >> 64 == V6_BASE >> 64,
        }
    }

    /// Number of names remembered.
    pub fn len(&self) -> usize {
        self.lock().names.len()
    }

    /// Tells whether no name was asked for yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Synthetic {
    fn default() -> Self {
        Self::new()
    }
}

/// Both directions; `names` alone knows the order of use.
struct Table {
    places: LruCache<Name, u32>,
    names: LruCache<u32, Name>,
}

impl Table {
    fn place(&mut self, name: &Name) -> u32 {
        if let Some(&place) = self.places.peek(name) {
            self.names.promote(&place);
            return place;
        }
        let place = self.free_place(name);
        if let Some((_, gone)) = self.names.push(place, name.clone()) {
            self.places.pop(&gone);
        }
        self.places.put(name.clone(), place);
        place
    }

    /// Ends, because the table holds fewer names than there are places.
    fn free_place(&self, name: &Name) -> u32 {
        let mut place = hash(name) & PLACE_MASK;
        while place == 0 || place == PLACE_MASK || self.names.contains(&place) {
            place = (place + 1) & PLACE_MASK;
        }
        place
    }

    fn name(&mut self, place: u32) -> Option<Name> {
        self.names.get(&place).cloned()
    }
}

/// 198.18.0.0/15, RFC 2544: routed nowhere, and not a range that tools treat as private.
const V4_BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// The 17 bits of an address that say the place. The first and the last are not used: some stacks take them for a broadcast.
const PLACE_MASK: u32 = (1 << 17) - 1;

/// `fd00:e25a:5::/64`, RFC 4193.
const V6_BASE: u128 = 0xfd00_e25a_0005_0000 << 64;

fn addresses(place: u32) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::from(V4_BASE | place),
        Ipv6Addr::from(V6_BASE | u128::from(place)),
    )
}

fn place_of(addr: IpAddr) -> Option<u32> {
    if !Synthetic::is_synthetic(addr) {
        return None;
    }
    match addr {
        IpAddr::V4(addr) => Some(u32::from(addr) & PLACE_MASK),
        IpAddr::V6(addr) => u32::try_from(u128::from(addr) & u128::from(u64::MAX)).ok(),
    }
}

/// FNV-1a, folded: fixed for ever, because addresses outlive a daemon. A sandbox
/// that makes names collide only lengthens its own look-ups, within [`NAMES`].
fn hash(name: &Name) -> u32 {
    let hash = name.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).expect("a name")
    }

    #[test]
    fn leads_back_to_the_name_by_both_families() {
        let table = Synthetic::new();
        for index in 0..3000 {
            let asked = name(&format!("host-{index}.example.com"));
            let (v4, v6) = table.assign(&asked);
            assert!(Synthetic::is_synthetic(v4.into()) && Synthetic::is_synthetic(v6.into()));
            assert_eq!(table.name(v4.into()), Some(asked.clone()));
            assert_eq!(table.name(v6.into()), Some(asked));
        }
        assert_eq!(table.len(), 3000);
    }

    #[test]
    fn says_the_same_again_and_in_another_table() {
        let (one, other) = (Synthetic::new(), Synthetic::new());
        let first = one.assign(&name("api.github.com"));
        one.assign(&name("github.com"));
        assert_eq!(one.assign(&name("api.github.com")), first);
        other.assign(&name("elsewhere.example"));
        assert_eq!(other.assign(&name("api.github.com")), first);
    }

    #[test]
    fn forgets_the_name_that_was_unused_for_longest() {
        let table = Synthetic::with_bound(NonZeroUsize::new(3).expect("not zero"));
        let names = [0, 1, 2, 3, 4].map(|host| name(&format!("{host}.example")));
        let [zero, one, two, three, four] = &names;
        let [at_zero, at_one, at_two] = [zero, one, two].map(|asked| table.assign(asked).0);
        assert_eq!(table.name(at_zero.into()).as_ref(), Some(zero));
        table.assign(one);
        table.assign(three);
        assert_eq!(table.name(at_two.into()), None);
        table.assign(four);
        assert_eq!(table.name(at_zero.into()), None);
        assert_eq!(table.name(at_one.into()).as_ref(), Some(one));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn keeps_within_its_bound() {
        let table = Synthetic::new();
        for index in 0..3 * NAMES.get() {
            table.assign(&name(&format!("{index}.cdn.example.com")));
        }
        assert_eq!(table.len(), NAMES.get());
        assert_eq!(table.lock().places.len(), NAMES.get());
    }

    #[test]
    fn colliding_names_have_addresses_of_their_own() {
        let table = Synthetic::new();
        let first = name("0.example");
        let wanted = hash(&first) & PLACE_MASK;
        let second = (1..10_000_000)
            .map(|index| name(&format!("{index}.example")))
            .find(|other| hash(other) & PLACE_MASK == wanted)
            .expect("a collision");
        let (one, two) = (table.assign(&first).0, table.assign(&second).0);
        assert_ne!(one, two);
        assert_eq!(table.name(one.into()), Some(first));
        assert_eq!(table.name(two.into()), Some(second));
    }

    #[rstest]
    #[case("198.18.0.0", true)]
    #[case("198.19.255.255", true)]
    #[case("198.17.255.255", false)]
    #[case("198.20.0.0", false)]
    #[case("fd00:e25a:5::", true)]
    #[case("fd00:e25a:5:0:ffff::1", true)]
    #[case("fd00:e25a:5:1::", false)]
    #[case("fd00:e25a:4::1", false)]
    #[case("::ffff:198.18.0.1", false)]
    fn knows_its_ranges(#[case] addr: IpAddr, #[case] expected: bool) {
        assert_eq!(Synthetic::is_synthetic(addr), expected);
        assert_eq!(Synthetic::new().name(addr), None);
    }
}
