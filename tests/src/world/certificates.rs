//! The world's certificate authority, and the certificates that are wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Two authorities: one that the daemon is told to trust and one that it is not.
pub(super) struct Authority {
    pem: String,
    trusted: Issuer<'static, KeyPair>,
    unknown: Issuer<'static, KeyPair>,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    pub(super) fn new() -> Result<Self> {
        let (pem, trusted) = root("ersatz test world")?;
        let (_, unknown) = root("nobody's authority")?;
        Ok(Self {
            pem,
            trusted,
            unknown,
            configs: Mutex::default(),
        })
    }

    /// The trusted root.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// How the server of that name does TLS: with a good certificate, or with
    /// the fault that its name promises.
    pub(super) fn server_config(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(name) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make(name)?);
        configs.insert(name.to_owned(), Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, name: &str) -> Result<ServerConfig> {
        let key = KeyPair::generate()?;
        let subject = if name == "wrongname.test" {
            "other.test"
        } else {
            name
        };
        let mut params = CertificateParams::new(vec![subject.to_owned()])?;
        match name {
            "expired.test" => params.not_after = date_time_ymd(2020, 1, 1),
            "future.test" => params.not_before = date_time_ymd(4000, 1, 1),
            _ => {}
        }
        let certificate = match name {
            "selfsigned.test" => params.self_signed(&key)?,
            "unknownca.test" => params.signed_by(&key, &self.unknown)?,
            _ => params.signed_by(&key, &self.trusted)?,
        };
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private(&key))?;
        config.alpn_protocols = match name {
            "h1.test" => vec![b"http/1.1".to_vec()],
            _ => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(config)
    }
}

fn root(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}
