//! The trust store for Java: PKCS#12 (RFC 7292) without encryption and without a MAC.
//!
//! Java opens its default store without a password, and finds nothing in one that
//! is encrypted. There is nothing to hide here and nobody to hide it from, so the
//! plain form is right, and every Java since 8 reads it, with a password or none.

use yasna::{DERWriter, Tag, construct_der, models::ObjectIdentifier};

/// pkcs-7 data
const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
/// pkcs-12 certBag
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
/// pkcs-9 x509Certificate
const X509: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
/// pkcs-9 friendlyName, an entry's alias
const ALIAS: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
/// Oracle's trustedKeyUsage: without it Java takes a certificate for no trust anchor.
const TRUSTED: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
/// anyExtendedKeyUsage
const ANY_USAGE: &[u64] = &[2, 5, 29, 37, 0];

/// A trust store of these certificates, DER.
pub(super) fn store<C: AsRef<[u8]>>(certificates: impl Iterator<Item = C>) -> Vec<u8> {
    let bags = construct_der(|writer| {
        writer.write_sequence(|writer| {
            for (number, certificate) in certificates.enumerate() {
                bag(
                    writer.next(),
                    &format!("root-{number}"),
                    certificate.as_ref(),
                );
            }
        });
    });
    let safes = construct_der(|writer| {
        writer.write_sequence(|writer| data(writer.next(), &bags));
    });
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &safes);
        });
    })
}

fn data(writer: DERWriter<'_>, content: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), DATA);
        explicit(writer.next(), |writer| writer.write_bytes(content));
    });
}

fn bag(writer: DERWriter<'_>, alias: &str, certificate: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), CERTIFICATE_BAG);
        explicit(writer.next(), |writer| {
            writer.write_sequence(|writer| {
                oid(writer.next(), X509);
                explicit(writer.next(), |writer| writer.write_bytes(certificate));
            });
        });
        writer.next().write_set_of(|writer| {
            attribute(writer.next(), ALIAS, |writer| {
                writer.write_bmp_string(alias);
            });
            attribute(writer.next(), TRUSTED, |writer| oid(writer, ANY_USAGE));
        });
    });
}

fn attribute(writer: DERWriter<'_>, name: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        oid(writer.next(), name);
        writer.next().write_set_of(|writer| value(writer.next()));
    });
}

fn explicit(writer: DERWriter<'_>, content: impl FnOnce(DERWriter<'_>)) {
    writer.write_tagged(Tag::context(0), content);
}

fn oid(writer: DERWriter<'_>, components: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(components));
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    /// `keytool -list` of a JDK 17 finds the authority in this store as a `trustedCertEntry`,
    /// with a password and without one.
    const STORE: &[u8] = include_bytes!("../../../testdata/store.p12");
    const CA: &str = include_str!("../../../testdata/ca.pem");

    #[test]
    fn writes_the_bytes_that_java_was_seen_to_read() {
        assert_eq!(
            store(CertificateDer::pem_slice_iter(CA.as_bytes()).flatten()),
            STORE
        );
    }
}
