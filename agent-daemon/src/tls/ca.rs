//! The certificate authority that the sandboxes of one daemon trust.
//!
//! Made at start, held in memory, valid for 30 days, `pathlen 0`. `ersatzd` keeps it in a pinned
//! BPF map as well (kernel memory, never a disk), so that the next daemon after a crash serves
//! sandboxes that already trust it; see [`Ca::to_bytes`].

use std::sync::atomic::{AtomicU64, Ordering};

use ersatz_policy::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// How long the authority is valid: long enough for any sandbox, short enough to be worth little.
const CA_LIFE: Duration = Duration::days(30);
/// How long a leaf is valid; renewed by [`super::Leaves`] well before.
pub(super) const LEAF_LIFE: Duration = Duration::hours(24);
/// Certificates start a little in the past, for sandboxes whose clock is behind.
const BACKDATE: Duration = Duration::minutes(10);

/// Signs leaf certificates.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    not_after: OffsetDateTime,
    serials: AtomicU64,
    serial_prefix: [u8; 8],
}

/// Why the authority could not be made, restored or used. The fault is ours.
#[derive(Debug, Error)]
pub(crate) enum CaError {
    #[error("the cryptographic library refused to make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("no randomness from the kernel")]
    Random(#[from] getrandom::Error),
    #[error("the kept authority is cut off or damaged")]
    Damaged,
    #[error("the kept authority has expired")]
    Expired,
}

impl Ca {
    /// Makes a new authority with a P-256 key.
    pub(crate) fn generate() -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let now = OffsetDateTime::now_utc();
        let mut params = ca_params();
        params.not_before = now - BACKDATE;
        params.not_after = now + CA_LIFE;
        params.serial_number = Some(random_serial()?);
        let der = params.self_signed(&key)?.der().clone();
        Self::assemble(key, der, params.not_after)
    }

    /// The authority as bytes: expiry, certificate and key, for kernel memory only.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::new());
        bytes.extend(self.not_after.unix_timestamp().to_be_bytes());
        bytes.extend(u32::try_from(self.der.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(self.der.as_ref());
        bytes.extend(self.issuer.key().serialized_der());
        bytes
    }

    /// Restores what [`Ca::to_bytes`] gave; trailing zeros are the map's padding.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CaError> {
        let (expiry, rest) = bytes.split_first_chunk::<8>().ok_or(CaError::Damaged)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(CaError::Damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (der, key) = rest.split_at_checked(length).ok_or(CaError::Damaged)?;
        let not_after = OffsetDateTime::from_unix_timestamp(i64::from_be_bytes(*expiry))
            .map_err(|_| CaError::Damaged)?;
        if not_after <= OffsetDateTime::now_utc() + LEAF_LIFE {
            return Err(CaError::Expired);
        }
        let key = PrivatePkcs8KeyDer::from(trim_der(key).ok_or(CaError::Damaged)?);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)?;
        Self::assemble(key, CertificateDer::from(der.to_vec()), not_after)
    }

    fn assemble(
        key: KeyPair,
        der: CertificateDer<'static>,
        not_after: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let issuer = Issuer::new(ca_params(), key);
        let mut serial_prefix = [0; 8];
        getrandom::fill(&mut serial_prefix)?;
        Ok(Self {
            issuer,
            der,
            not_after,
            serials: AtomicU64::new(1),
            serial_prefix,
        })
    }

    /// The authority's certificate, PEM, as it goes into a sandbox's trust bundle.
    pub(crate) fn pem(&self) -> String {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let text = BASE64_STANDARD.encode(&self.der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        )
    }

    /// Mints a certificate for `name` and for nothing else, on the public part of `key`.
    pub(super) fn mint(
        &self,
        name: &Name,
        key: &KeyPair,
    ) -> Result<CertificateDer<'static>, CaError> {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // RFC 5280 bounds a common name to 64 characters; the SAN is what clients read.
        if name.as_str().len() <= 64 {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - BACKDATE;
        params.not_after = (now + LEAF_LIFE).min(self.not_after);
        params.serial_number = Some(self.next_serial());
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }

    /// Unique under this authority and not to be guessed: a random prefix and a counter.
    fn next_serial(&self) -> SerialNumber {
        let count = self.serials.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [self.serial_prefix, count.to_be_bytes()].concat();
        positive(&mut bytes);
        SerialNumber::from_slice(&bytes)
    }
}

/// What is the same in every authority of ours, so that an issuer can be had from the key alone.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "ersatz sandbox CA");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "ersatz");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Keeps a serial number positive and of constant length in DER.
fn positive(bytes: &mut [u8]) {
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
}

fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    positive(&mut bytes);
    Ok(SerialNumber::from_slice(&bytes))
}

/// The first DER element of `bytes`, without what follows it.
fn trim_der(bytes: &[u8]) -> Option<&[u8]> {
    let (&first, &second) = (bytes.get(1)?, bytes.get(2).unwrap_or(&0));
    let length = match first {
        0..=0x7f => 2 + usize::from(first),
        0x81 => 3 + usize::from(second),
        0x82 => 4 + usize::from(u16::from_be_bytes([second, *bytes.get(3)?])),
        _ => return None,
    };
    bytes.get(..length)
}

/// The leaf key of one sandbox: P-256, never leaves memory.
pub(super) fn leaf_key() -> Result<KeyPair, CaError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).expect("a valid name")
    }

    #[test]
    fn a_leaf_has_one_name_and_key_identifiers() {
        let ca = Ca::generate().expect("a CA");
        let key = leaf_key().expect("a key");
        let der = ca.mint(&name("api.example.com"), &key).expect("a leaf");
        let (_, leaf) = X509Certificate::from_der(&der).expect("DER");
        let san = leaf
            .subject_alternative_name()
            .expect("parsed")
            .expect("present");
        assert_eq!(
            san.value.general_names,
            [GeneralName::DNSName("api.example.com")]
        );
        let ids: Vec<_> = leaf
            .extensions()
            .iter()
            .map(|e| e.oid.to_id_string())
            .collect();
        assert!(
            ids.contains(&"2.5.29.14".into()),
            "subject key identifier in {ids:?}"
        );
        assert!(
            ids.contains(&"2.5.29.35".into()),
            "authority key identifier in {ids:?}"
        );
        assert!(!leaf.is_ca());
    }

    #[test]
    fn survives_being_kept_with_padding() {
        let ca = Ca::generate().expect("a CA");
        let mut bytes = ca.to_bytes().to_vec();
        bytes.resize(2048, 0);
        let kept = Ca::from_bytes(&bytes).expect("restored");
        assert_eq!(kept.pem(), ca.pem());
        assert!(Ca::from_bytes(&bytes[..40]).is_err());
        assert!(Ca::from_bytes(&[]).is_err());
    }

    #[test]
    fn an_authority_about_to_expire_is_not_taken_over() {
        let ca = Ca::generate().expect("a CA");
        let mut bytes = ca.to_bytes().to_vec();
        let soon = OffsetDateTime::now_utc() + LEAF_LIFE - Duration::minutes(1);
        bytes[..8].copy_from_slice(&soon.unix_timestamp().to_be_bytes());
        assert!(matches!(Ca::from_bytes(&bytes), Err(CaError::Expired)));
    }

    #[test]
    fn a_leaf_lives_for_a_day_and_begins_a_little_earlier() {
        let ca = Ca::generate().expect("a CA");
        let key = leaf_key().expect("a key");
        let der = ca.mint(&name("api.example.com"), &key).expect("a leaf");
        let (_, leaf) = X509Certificate::from_der(&der).expect("DER");
        let validity = leaf.validity();
        let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(seconds, (LEAF_LIFE + BACKDATE).whole_seconds());
        assert_eq!(LEAF_LIFE, Duration::hours(24));
    }

    #[test]
    fn serials_are_unique_and_positive() {
        let ca = Ca::generate().expect("a CA");
        let serials: std::collections::HashSet<_> =
            (0..10_000).map(|_| ca.next_serial().to_bytes()).collect();
        assert_eq!(serials.len(), 10_000);
        assert!(serials.iter().all(|s| s.len() == 16 && s[0] & 0x80 == 0));
    }
}
