//! Certificates of the bench: one authority, and leaves for any set of names.
//!
//! All keys are P-256, which is what ersatz mints, so that a handshake costs
//! every subject the same signature.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The bench's certificate authority, in memory.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Makes a fresh authority.
    pub(crate) fn generate() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "ersatz bench");
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Writes `ca.pem` into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::write(dir.join("ca.pem"), &self.pem).context("writing ca.pem")
    }

    /// Issues a server certificate for `names` and writes `NAME.pem` (chain),
    /// `NAME.key` and `NAME.both.pem` (key and chain, as mitmproxy wants it).
    pub(crate) fn issue(&self, dir: &Path, name: &str, names: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let pem = params.signed_by(&key, &self.issuer)?.pem();
        let private = key.serialize_pem();
        fs::write(dir.join(format!("{name}.pem")), &pem)?;
        fs::write(dir.join(format!("{name}.key")), &private)?;
        fs::write(
            dir.join(format!("{name}.both.pem")),
            format!("{private}{pem}"),
        )?;
        Ok(())
    }
}
