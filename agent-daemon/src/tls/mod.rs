//! TLS on both sides, with one stack: rustls on aws-lc-rs.
//!
//! Downstream we are the server a sandbox believes it is talking to: [`Ca`] mints, [`Leaves`]
//! keeps what was minted for one sandbox. Upstream we are a client that sends nothing before
//! the certificate is verified for the very name that policy decided on ([`Trust`]).
//!
//! Invariants: policy is asked before anything is minted; a leaf has exactly one name; keys,
//! tickets and resumption state belong to one sandbox.

mod ca;
mod leaf;
mod trust;

use std::sync::{Arc, LazyLock};

use rustls::{CipherSuite, crypto::CryptoProvider};

use crate::audit::Protocol;

pub(crate) use ca::{Ca, CaError};
pub(crate) use leaf::{Leaves, Minted};
pub(crate) use trust::{Trust, UpstreamTls};

/// ALPN protocol identifiers (RFC 7301, RFC 9113).
pub(crate) const ALPN_H1: &[u8] = b"http/1.1";
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// An HTTP version, chosen once a connection and the same on both sides: nothing is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    H1,
    H2,
}

impl Version {
    pub(crate) fn of_alpn(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(ALPN_H2) {
            Self::H2
        } else {
            Self::H1
        }
    }

    /// As records and metrics name it.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::H1 => Protocol::H1,
            Self::H2 => Protocol::H2,
        }
    }
}

/// The one provider of cryptography, so that nothing depends on a process-wide default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // AES-128-GCM first: as safe here, and with SHA-256 an eighth cheaper to shake hands with.
        provider.cipher_suites.sort_by_key(|suite| {
            !matches!(
                suite.suite(),
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            )
        });
        Arc::new(provider)
    });
    PROVIDER.clone()
}
