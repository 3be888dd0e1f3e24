//! The files that make a sandbox trust our certificate authority.
//!
//! One bundle with the public roots and ours, ours alone for the variables that
//! add to a tool's own roots, the same again as Java reads it, and a directory
//! with the name under which OpenSSL looks for ours.

mod java;

use std::{fmt::Write, fs, io};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    der_parser::asn1_rs::FromDer,
    prelude::X509Certificate,
    x509::{AttributeTypeAndValue, X509Name},
};
use yasna::{construct_der, models::ObjectIdentifier};

/// Where a sandbox finds our files.
pub const DIRECTORY: &str = "/run/ersatz-sandbox";

/// Where distributions keep the bundle of public roots; all that exist are replaced.
pub(super) const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/tls/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Where distributions keep the trust store of Java.
pub(super) const JAVA_STORES: &[&str] = &[
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
];

/// The daemon's certificate authority is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authority of the daemon is malformed")]
pub struct TrustError;

/// The contents of the files.
pub struct Trust {
    /// Public roots and ours, PEM.
    pub bundle: Vec<u8>,
    /// Ours alone, PEM.
    pub authority: Vec<u8>,
    /// All of the bundle, PKCS#12.
    pub java: Vec<u8>,
    /// The file name by which OpenSSL finds ours in a directory.
    pub hash_name: String,
}

impl Trust {
    /// Makes the files' contents of the host's public roots and ours.
    pub fn build(roots_pem: &[u8], ca_pem: &str, added_pem: &str) -> Result<Trust, TrustError> {
        let mut bundle = roots_pem.to_vec();
        for part in [added_pem, ca_pem] {
            bundle.push(b'\n');
            bundle.extend_from_slice(part.as_bytes());
        }
        let authority =
            CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|_| TrustError)?;
        Ok(Trust {
            java: java::store(CertificateDer::pem_slice_iter(&bundle).flatten()),
            hash_name: format!("{}.0", subject_hash(&authority).ok_or(TrustError)?),
            bundle,
            authority: ca_pem.as_bytes().to_vec(),
        })
    }
}

/// The path of the host's bundle of public roots.
pub(crate) fn public_bundle() -> Option<&'static str> {
    BUNDLES
        .iter()
        .copied()
        .find(|path| fs::metadata(path).is_ok_and(|file| file.is_file()))
}

/// The host's bundle of public roots, empty when there is none.
pub(super) fn public_roots() -> Vec<u8> {
    public_bundle()
        .and_then(|path| fs::read(path).ok())
        .unwrap_or_default()
}

/// OpenSSL's `X509_NAME_hash`: the start of the SHA-1 of the canonical subject.
fn subject_hash(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &canonical(parsed.subject())?);
    let mut name = String::new();
    for byte in hash.as_ref().get(..4)?.iter().rev() {
        write!(name, "{byte:02x}").ok()?;
    }
    Some(name)
}

/// The name as OpenSSL hashes it: strings in UTF-8, lower case, white space collapsed,
/// without the outer sequence (`x509_name_canon` in its `crypto/x509/x_name.c`).
fn canonical(name: &X509Name<'_>) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for rdn in name.iter() {
        let pairs: Option<Vec<_>> = rdn.iter().map(|pair| canonical_pair(pair)).collect();
        all.extend(construct_der(|writer| {
            writer.write_set_of(|writer| {
                for pair in pairs.iter().flatten() {
                    writer.next().write_der(pair);
                }
            });
        }));
        pairs?;
    }
    Some(all)
}

fn canonical_pair(pair: &AttributeTypeAndValue<'_>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pair.attr_value().data).ok()?;
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let components: Vec<u64> = pair.attr_type().iter()?.collect();
    Some(construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer
                .next()
                .write_oid(&ObjectIdentifier::from_slice(&components));
            writer
                .next()
                .write_utf8_string(&words.join(" ").to_ascii_lowercase());
        });
    }))
}

/// The files of [`DIRECTORY`], by name.
pub(super) fn write_all(trust: &Trust) -> io::Result<()> {
    let hashed = format!("certs/{}", trust.hash_name);
    fs::create_dir_all(format!("{DIRECTORY}/certs"))?;
    for (name, content) in [
        ("bundle.pem", &trust.bundle),
        ("ca.pem", &trust.authority),
        ("trust.p12", &trust.java),
        ("certs/ersatz.pem", &trust.authority),
        (hashed.as_str(), &trust.authority),
    ] {
        fs::write(format!("{DIRECTORY}/{name}"), content)?;
    }
    // Bound over whatever the sandbox must not see: nothing to read, nobody may.
    fs::write(format!("{DIRECTORY}/hidden"), b"")?;
    fs::set_permissions(
        format!("{DIRECTORY}/hidden"),
        std::os::unix::fs::PermissionsExt::from_mode(0o000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=Ersatz  Test/CN=A  Name"`
    const CA: &str = include_str!("../../testdata/ca.pem");
    /// `openssl x509 -hash -noout` of it.
    const HASH: &str = include_str!("../../testdata/ca.hash");

    #[test]
    fn the_hash_is_the_one_that_openssl_looks_for() {
        let der = CertificateDer::from_pem_slice(CA.as_bytes()).expect("a certificate");
        assert_eq!(subject_hash(&der).as_deref(), Some(HASH.trim()));
    }

    #[test]
    fn the_bundle_holds_public_roots_and_ours() {
        let trust = Trust::build(CA.as_bytes(), CA, "").expect("well-formed");
        assert_eq!(
            CertificateDer::pem_slice_iter(&trust.bundle)
                .flatten()
                .count(),
            2
        );
        assert_eq!(trust.authority, CA.as_bytes());
    }

    #[test]
    fn a_root_without_a_line_end_does_not_swallow_ours() {
        let trust = Trust::build(CA.trim_end().as_bytes(), CA, CA.trim_end()).expect("well-formed");
        assert_eq!(
            CertificateDer::pem_slice_iter(&trust.bundle)
                .flatten()
                .count(),
            3
        );
    }

    #[test]
    fn refuses_an_authority_that_is_no_certificate() {
        assert!(matches!(Trust::build(b"", "nonsense", ""), Err(TrustError)));
    }
}
