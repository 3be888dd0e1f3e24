//! TLS as the client speaks it: it trusts what the sandbox was told to trust.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// A configuration with the roots that `SSL_CERT_FILE` names.
pub(super) fn config(alpn: &[&str]) -> Result<Arc<ClientConfig>> {
    let bundle = std::env::var_os("SSL_CERT_FILE").context("SSL_CERT_FILE is not set")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(bundle)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}
