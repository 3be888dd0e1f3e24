//! The leaf certificates of one sandbox: minted on first use, kept within a bound.
//!
//! All leaves of a sandbox share one key, so that a new name costs one signature. Minting happens
//! under the cache's lock: it takes well under 0.1 ms, and so nothing is ever minted twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ersatz_policy::InterceptPermit;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{NoServerSessionStorage, ProducesTickets},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{ALPN_H1, ALPN_H2, Ca, CaError, Version, ca, provider};

/// Names kept per sandbox; the one that was used longest ago makes room for a new one.
pub(crate) const LEAVES_PER_SANDBOX: usize = 256;
/// A leaf is minted anew after two thirds of its life.
const RENEW_AFTER: Duration = Duration::from_hours(16);

/// Mints and keeps the leaves of one sandbox.
pub(crate) struct Leaves {
    ca: Arc<Ca>,
    key: rcgen::KeyPair,
    signing: Arc<dyn rustls::sign::SigningKey>,
    tickets: Arc<dyn ProducesTickets>,
    kept: Mutex<HashMap<Arc<str>, Leaf>>,
}

struct Leaf {
    minted: Instant,
    used: Instant,
    resolver: Arc<SingleCertAndKey>,
    h1: Option<Arc<ServerConfig>>,
    h2: Option<Arc<ServerConfig>>,
}

/// Whether a server configuration was at hand or had to be minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Minted {
    Now,
    Before,
}

impl Leaves {
    /// Makes the sandbox's own key and ticket key.
    pub(crate) fn new(ca: Arc<Ca>) -> Result<Self, CaError> {
        let key = ca::leaf_key()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let refused = |_| CaError::Damaged;
        let signing = provider()
            .key_provider
            .load_private_key(der)
            .map_err(refused)?;
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(refused)?;
        Ok(Self {
            ca,
            key,
            signing,
            tickets,
            kept: Mutex::default(),
        })
    }

    /// A server configuration for the permitted name. The permit is what makes minting possible
    /// at all: a name that policy refused cannot get here.
    pub(crate) fn config(
        &self,
        permit: &InterceptPermit,
        version: Version,
    ) -> Result<(Arc<ServerConfig>, Minted), CaError> {
        let ersatz_policy::Host::Name(name) = permit.authority().host() else {
            return Err(CaError::Damaged);
        };
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = kept.get_mut(name.as_str())
            && now.duration_since(leaf.minted) < RENEW_AFTER
        {
            leaf.used = now;
            return Ok((leaf.config(version, &self.tickets), Minted::Before));
        }
        let mut leaf = self.mint(name, now)?;
        let config = leaf.config(version, &self.tickets);
        if kept.len() >= LEAVES_PER_SANDBOX {
            drop_oldest(&mut kept);
        }
        kept.insert(Arc::from(name.as_str()), leaf);
        Ok((config, Minted::Now))
    }

    /// How many leaves are kept.
    pub(crate) fn len(&self) -> usize {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn mint(&self, name: &ersatz_policy::Name, now: Instant) -> Result<Leaf, CaError> {
        let chain = vec![self.ca.mint(name, &self.key)?];
        let certified = CertifiedKey::new(chain, self.signing.clone());
        Ok(Leaf {
            minted: now,
            used: now,
            resolver: Arc::new(SingleCertAndKey::from(certified)),
            h1: None,
            h2: None,
        })
    }
}

impl Leaf {
    fn config(
        &mut self,
        version: Version,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Arc<ServerConfig> {
        let (slot, alpn) = match version {
            Version::H1 => (&mut self.h1, ALPN_H1),
            Version::H2 => (&mut self.h2, ALPN_H2),
        };
        slot.get_or_insert_with(|| {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .expect("the provider supports TLS 1.2 and 1.3")
                .with_no_client_auth()
                .with_cert_resolver(self.resolver.clone());
            config.alpn_protocols = vec![alpn.to_vec()];
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.ticketer = tickets.clone();
            config.send_tls13_tickets = 1;
            config.ignore_client_order = true;
            Arc::new(config)
        })
        .clone()
    }
}

fn drop_oldest(kept: &mut HashMap<Arc<str>, Leaf>) {
    if let Some(oldest) = kept
        .iter()
        .min_by_key(|(_, leaf)| leaf.used)
        .map(|(n, _)| n.clone())
    {
        kept.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use ersatz_api::Resources;
    use ersatz_policy::{Name, Policy, Tls};

    use super::*;

    fn policy() -> Policy {
        let text = "{apiVersion: ersatz.dev/v1alpha1, kind: EgressPolicy, metadata: {name: p}, \
                    spec: {allow: [{hosts: [\"*.example.com\"]}]}}";
        let resources = Resources::parse("p.yaml", text).unwrap();
        resources.policy(None).unwrap().0
    }

    fn permit(policy: &Policy, name: &str) -> InterceptPermit {
        let name = Name::parse(name.as_bytes()).unwrap();
        match policy.tls(&name, 443).unwrap() {
            Tls::Intercept(permit) => permit,
            Tls::Passthrough(_) => unreachable!("the policy intercepts"),
        }
    }

    #[test]
    fn mints_once_a_name_and_keeps_no_more_than_its_bound() {
        let leaves = Leaves::new(Arc::new(Ca::generate().unwrap())).unwrap();
        let policy = policy();
        let minted = |name: &str| {
            let permit = permit(&policy, name);
            leaves.config(&permit, Version::H1).unwrap().1
        };
        assert_eq!(minted("first.example.com"), Minted::Now);
        assert_eq!(minted("first.example.com"), Minted::Before);
        for n in 0..LEAVES_PER_SANDBOX {
            assert_eq!(minted(&format!("n{n}.example.com")), Minted::Now);
        }
        assert_eq!(leaves.len(), LEAVES_PER_SANDBOX);
        assert_eq!(minted("first.example.com"), Minted::Now);
        assert_eq!(minted("n255.example.com"), Minted::Before);
    }

    #[test]
    fn a_leaf_is_minted_anew_well_before_its_end() {
        let leaves = Leaves::new(Arc::new(Ca::generate().unwrap())).unwrap();
        let policy = policy();
        let permit = permit(&policy, "a.example.com");
        assert_eq!(leaves.config(&permit, Version::H1).unwrap().1, Minted::Now);
        for leaf in leaves.kept.lock().unwrap().values_mut() {
            leaf.minted = Instant::now().checked_sub(RENEW_AFTER).unwrap();
        }
        assert_eq!(leaves.config(&permit, Version::H1).unwrap().1, Minted::Now);
    }
}
