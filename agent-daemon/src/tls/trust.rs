//! Which upstreams are believed: the public roots, those of the configuration, and nothing else.
//!
//! The verifier is shared, for it holds no state; resumption is not, for a session says who
//! talked to whom ([`UpstreamTls`] belongs to one sandbox).

use std::{fs, io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    pki_types::{CertificateDer, pem::PemObject},
};
use thiserror::Error;

use super::{ALPN_H1, ALPN_H2, Version, provider};

/// Upstream TLS sessions kept for resumption, per sandbox.
const SESSIONS_PER_SANDBOX: usize = 32;

/// The roots that upstream certificates are verified against.
#[derive(Clone)]
pub(crate) struct Trust(Arc<WebPkiServerVerifier>);

/// Why the roots could not be loaded. The fault is the operator's.
#[derive(Debug, Error)]
pub(crate) enum TrustError {
    #[error("cannot read the root certificates in {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a file of PEM certificates", path.display())]
    NotPem { path: PathBuf },
    #[error("{} holds a certificate that cannot be a root", path.display())]
    NotARoot { path: PathBuf },
    #[error("no root certificate at all: set upstream.roots.public or upstream.roots.files")]
    Empty,
}

impl Trust {
    /// Loads the public roots (the bundled ones of Mozilla) if asked for, and `files`.
    pub(crate) fn load(public: bool, files: &[PathBuf]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        if public {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in files {
            add_file(&mut roots, path)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map(Self)
            .map_err(|_| TrustError::Empty)
    }
}

fn add_file(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), TrustError> {
    let pem = fs::read(path).map_err(|source| TrustError::Unreadable {
        path: path.clone(),
        source,
    })?;
    let not_pem = || TrustError::NotPem { path: path.clone() };
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots
            .add(certificate.map_err(|_| not_pem())?)
            .map_err(|_| TrustError::NotARoot { path: path.clone() })?;
    }
    if roots.len() == before {
        Err(not_pem())
    } else {
        Ok(())
    }
}

/// The upstream side's TLS settings of one sandbox.
pub(crate) struct UpstreamTls {
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    learn: Arc<ClientConfig>,
}

impl UpstreamTls {
    pub(crate) fn new(trust: &Trust) -> Self {
        let resumption = Resumption::in_memory_sessions(SESSIONS_PER_SANDBOX);
        let config = |alpn: &[&[u8]]| {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .expect("the provider supports TLS 1.2 and 1.3")
                .with_webpki_verifier(trust.0.clone())
                .with_no_client_auth();
            config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
            config.resumption = resumption.clone();
            config.enable_early_data = false;
            Arc::new(config)
        };
        Self {
            h1: config(&[ALPN_H1]),
            h2: config(&[ALPN_H2]),
            learn: config(&[ALPN_H2, ALPN_H1]),
        }
    }

    /// The settings that offer exactly `version`, or both when it is yet to be learned.
    pub(crate) fn config(&self, version: Option<Version>) -> Arc<ClientConfig> {
        match version {
            Some(Version::H1) => self.h1.clone(),
            Some(Version::H2) => self.h2.clone(),
            None => self.learn.clone(),
        }
    }
}
