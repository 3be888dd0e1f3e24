//! rustls configurations of the bench's own peers.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use rustls::{
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Protocol of a connection, as ALPN names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    H1,
    H2,
}

impl Protocol {
    pub(crate) fn alpn(self) -> Vec<u8> {
        match self {
            Self::H1 => b"http/1.1".to_vec(),
            Self::H2 => b"h2".to_vec(),
        }
    }
}

/// A client that trusts `ca` alone, offers one protocol and never resumes a session.
pub(crate) fn client(ca: &Path, protocol: Protocol) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).context("reading the trust bundle")? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A server with the certificate `DIR/NAME.pem`, speaking h2 and HTTP/1.1.
pub(crate) fn server(dir: &Path, name: &str) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(dir.join(format!("{name}.pem")))?
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![Protocol::H2.alpn(), Protocol::H1.alpn()];
    Ok(config)
}

/// The default provider, but AES-128 first where a server may choose: its key
/// schedule hashes with SHA-256, which processors have instructions for.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != TLS13_AES_128_GCM_SHA256);
    provider
}
