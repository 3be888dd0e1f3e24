//! The policy of a sandbox, compiled.
//!
//! What is granted adds up; what no grant names is denied. The handling of a connection must be one, though:
//! of all grants that name a host and port, the one with the most specific pattern decides whether it is
//! intercepted, passed through or opaque, and the requests that are then admitted are those of every grant with
//! that handling. `pinned.example.com` may so be passed through where `*.example.com` is intercepted, and the
//! other way round. Two grants with the same pattern that disagree are refused when the policy is compiled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::{Grant, Handling, Index};
use crate::permit::{
    Denied, Grantor, InterceptPermit, PassthroughPermit, PlaintextPermit, TcpPermit, TcpTarget, Tls,
};
use crate::{Authority, Credential, Host, Name, Reason};

/// A compiled policy. Immutable.
#[derive(Debug)]
pub struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) credentials: Vec<Arc<Credential>>,
    pub(crate) index: Index,
}

/// The grants that decide about one name and port.
enum Found {
    Nothing,
    OtherPorts,
    Handled(Handling, SmallVec<[Arc<Grant>; 4]>),
}

impl Policy {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn credentials(&self) -> &[Arc<Credential>] {
        &self.credentials
    }

    /// Whether DNS may answer for the name: some rule or credential names it.
    pub fn resolves(&self, name: &Name) -> bool {
        self.index.naming(name).next().is_some()
    }

    /// Judges a TLS connection by its server name and port.
    pub fn tls(&self, name: &Name, port: u16) -> Result<Tls, Denied> {
        match self.find(name, port) {
            Found::Handled(Handling::Intercept, grants) => {
                let permit =
                    InterceptPermit::new(authority(name, port), Arc::clone(&self.name), grants);
                Ok(Tls::Intercept(permit))
            }
            Found::Handled(Handling::Passthrough, grants) => {
                let grantor = grants.first().map(|grant| grant.grantor.clone());
                let grantor = grantor.ok_or_else(|| self.denied(Reason::Internal, name))?;
                Ok(Tls::Passthrough(PassthroughPermit::new(
                    authority(name, port),
                    grantor,
                )))
            }
            Found::Handled(..) => Err(self.denied(Reason::ProtocolNotAllowed, name)),
            Found::OtherPorts => Err(self.denied(Reason::PortNotAllowed, name)),
            Found::Nothing => Err(self.denied(Reason::HostNotAllowed, name)),
        }
    }

    /// Judges a connection that speaks plain HTTP. Only rules with `scheme: http` allow it.
    pub fn plaintext(&self, name: &Name, port: u16) -> Result<PlaintextPermit, Denied> {
        match self.find(name, port) {
            Found::Handled(Handling::Plaintext, grants) => Ok(PlaintextPermit::new(
                authority(name, port),
                Arc::clone(&self.name),
                grants,
            )),
            Found::Nothing => Err(self.denied(Reason::HostNotAllowed, name)),
            Found::OtherPorts if self.speaks_plaintext(name) => {
                Err(self.denied(Reason::PortNotAllowed, name))
            }
            Found::OtherPorts | Found::Handled(..) => {
                Err(self.denied(Reason::PlaintextNotAllowed, name))
            }
        }
    }

    /// Judges opaque TCP: by name when our DNS gave the address for one, else by the address itself.
    pub fn opaque(&self, name: Option<&Name>, address: SocketAddr) -> Option<TcpPermit> {
        let port = address.port();
        let Some(name) = name else {
            let grant = self
                .index
                .holding(address.ip())
                .find(|grant| grant.ports.contains(&port))?;
            return Some(TcpPermit::new(
                TcpTarget::Address(address),
                grant.grantor.clone(),
            ));
        };
        match self.find(name, port) {
            Found::Handled(Handling::Tcp, grants) => {
                let grantor = grants.first()?.grantor.clone();
                Some(TcpPermit::new(
                    TcpTarget::Name(authority(name, port)),
                    grantor,
                ))
            }
            _ => None,
        }
    }

    /// Judges a connection that has not said anything yet, by the name that our DNS gave its address for, if
    /// there is one, and its port. What is denied here can be ended at once; what is not must still be judged by
    /// what it says.
    pub fn reaches(&self, name: Option<&Name>, port: u16) -> Result<(), Denied> {
        let Some(name) = name else {
            let reason = Reason::AddressNotAllowed;
            let denied = || Denied {
                reason,
                policy: Arc::clone(&self.name),
                host: None,
            };
            return if self.index.uses(port) {
                Ok(())
            } else {
                Err(denied())
            };
        };
        match self.find(name, port) {
            Found::Handled(..) => Ok(()),
            Found::OtherPorts => Err(self.denied(Reason::PortNotAllowed, name)),
            Found::Nothing => Err(self.denied(Reason::HostNotAllowed, name)),
        }
    }

    /// Everything that names the host, the most specific first, whatever the port. For explanations.
    pub fn naming(&self, name: &Name) -> Vec<Grantor> {
        self.index
            .naming(name)
            .map(|grant| grant.grantor.clone())
            .collect()
    }

    /// Every rule whose blocks hold the address, the longest prefix first. For explanations.
    pub fn holding(&self, address: IpAddr) -> Vec<Grantor> {
        self.index
            .holding(address)
            .map(|grant| grant.grantor.clone())
            .collect()
    }

    /// A refusal in this policy's name, for what the caller finds by itself.
    pub fn denied(&self, reason: Reason, name: &Name) -> Denied {
        Denied {
            reason,
            policy: Arc::clone(&self.name),
            host: Some(Host::Name(name.clone())),
        }
    }

    fn find(&self, name: &Name, port: u16) -> Found {
        let mut found = Found::Nothing;
        for grant in self.index.naming(name) {
            if !grant.ports.contains(&port) {
                if matches!(found, Found::Nothing) {
                    found = Found::OtherPorts;
                }
            } else if let Found::Handled(handling, grants) = &mut found {
                if grant.handling() == *handling {
                    grants.push(Arc::clone(grant));
                }
            } else {
                found = Found::Handled(grant.handling(), SmallVec::from_iter([Arc::clone(grant)]));
            }
        }
        found
    }

    fn speaks_plaintext(&self, name: &Name) -> bool {
        self.index
            .naming(name)
            .any(|grant| grant.handling() == Handling::Plaintext)
    }
}

fn authority(name: &Name, port: u16) -> Authority {
    Authority::new(Host::Name(name.clone()), port)
}

#[cfg(test)]
mod tests;
