//! Which grants name a host, found without looking at the others.
//!
//! A name has few labels, so its grants are found with one hash look-up for the name and one for each of its
//! parents, however many rules there are; blocks of addresses likewise, one look-up for each prefix length in use.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::permit::Grantor;
use crate::{Cidr, CredentialName, HostPattern, Name, Requests, Use};

/// One thing that the policy allows: a rule, or a use of a credential.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) ports: Box<[u16]>,
    pub(crate) kind: GrantKind,
    pub(crate) grantor: Grantor,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GrantKind {
    Intercept(Requests),
    Plaintext(Requests),
    Passthrough,
    Tcp,
    Use(CredentialName, Use),
}

/// What is done with a connection. Exactly one for a name and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    Intercept,
    Plaintext,
    Passthrough,
    Tcp,
}

impl Grant {
    pub(crate) fn handling(&self) -> Handling {
        match self.kind {
            GrantKind::Intercept(_) | GrantKind::Use(..) => Handling::Intercept,
            GrantKind::Plaintext(_) => Handling::Plaintext,
            GrantKind::Passthrough => Handling::Passthrough,
            GrantKind::Tcp => Handling::Tcp,
        }
    }
}

/// The grants of a policy by the hosts and blocks that they name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: HashMap<Name, Slot>,
    /// The ports on which some name is reached by TLS or HTTP.
    ports: BTreeSet<u16>,
    blocks: HashMap<Cidr, Vec<Arc<Grant>>>,
    prefixes_v4: BTreeSet<u8>,
    prefixes_v6: BTreeSet<u8>,
}

/// The grants whose patterns have the same name in them.
#[derive(Debug, Default)]
struct Slot {
    exact: Vec<Arc<Grant>>,
    one_label: Vec<Arc<Grant>>,
    below: Vec<Arc<Grant>>,
}

impl Index {
    /// Whether some name is reached by TLS or HTTP on this port.
    pub(crate) fn uses(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Adds a grant for a pattern. Returns a grant for the very same pattern and port that handles connections
    /// otherwise, with that port: between the two, nothing could decide.
    pub(crate) fn add_name(
        &mut self,
        pattern: &HostPattern,
        grant: &Arc<Grant>,
    ) -> Option<(Arc<Grant>, u16)> {
        let (HostPattern::Exact(name) | HostPattern::OneLabel(name) | HostPattern::Below(name)) =
            pattern;
        if grant.handling() != Handling::Tcp {
            self.ports.extend(&grant.ports);
        }
        let slot = self.names.entry(name.clone()).or_default();
        let grants = match pattern {
            HostPattern::Exact(_) => &mut slot.exact,
            HostPattern::OneLabel(_) => &mut slot.one_label,
            HostPattern::Below(_) => &mut slot.below,
        };
        let conflict = grants
            .iter()
            .filter(|other| other.handling() != grant.handling())
            .find_map(|other| {
                let port = other.ports.iter().find(|port| grant.ports.contains(port))?;
                Some((Arc::clone(other), *port))
            });
        grants.push(Arc::clone(grant));
        conflict
    }

    pub(crate) fn add_block(&mut self, block: Cidr, grant: &Arc<Grant>) {
        let prefixes = if block.is_ipv4() {
            &mut self.prefixes_v4
        } else {
            &mut self.prefixes_v6
        };
        prefixes.insert(block.prefix());
        self.blocks
            .entry(block)
            .or_default()
            .push(Arc::clone(grant));
    }

    /// All grants that name the host, the most specific pattern first: the name itself, then its nearest parent,
    /// and for one parent `*.` before `**.`.
    pub(crate) fn naming<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Arc<Grant>> {
        let exact = self.names.get(name).map_or(&[][..], |slot| &slot.exact);
        let wild = name.parents().enumerate().filter_map(|(distance, parent)| {
            let slot = self.names.get(parent)?;
            let one_label = if distance == 0 {
                slot.one_label.as_slice()
            } else {
                &[]
            };
            Some(one_label.iter().chain(&slot.below))
        });
        exact.iter().chain(wild.flatten())
    }

    /// All grants whose blocks hold the address, the longest prefix first.
    pub(crate) fn holding(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Grant>> {
        let prefixes = if address.is_ipv4() {
            &self.prefixes_v4
        } else {
            &self.prefixes_v6
        };
        let blocks = prefixes
            .iter()
            .rev()
            .filter_map(move |prefix| self.blocks.get(&Cidr::around(address, *prefix)));
        blocks.flatten()
    }
}
