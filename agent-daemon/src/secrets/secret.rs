//! A real secret in memory.

use ersatz_policy::InjectPermit;
use zeroize::Zeroizing;

/// The value of a credential.
///
/// Zeroized when the last owner lets go; without `Debug`, `Display`, `Clone` and
/// `Serialize`, so that it cannot get into a log or a record. It is read only by
/// who holds the proof of a policy's decision to inject it.
pub struct Secret(Zeroizing<Box<[u8]>>);

/// Why a value is not taken for a secret. Says nothing of the value but its kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing there, as in a file that is just being written.
    #[error("the value is empty")]
    Empty,
    /// Beyond 16 KiB: no server takes a header of that length.
    #[error("the value has more than 16 KiB")]
    TooLong,
    /// Something that must not, or cannot, be in a header.
    #[error("the value has a control character or one beyond ASCII in it")]
    Character,
    /// A space that an HTTP peer would drop.
    #[error("the value begins or ends with a space")]
    Space,
}

impl Secret {
    /// Octets of the longest secret.
    pub(super) const MOST: usize = 16 << 10;

    /// Octets of the longest value that may be one: a secret and its line end.
    pub(super) const MOST_READ: usize = Self::MOST + 2;

    /// Takes `value` as it is.
    pub(super) fn new(value: &[u8]) -> Result<Self, Invalid> {
        if value.is_empty() {
            return Err(Invalid::Empty);
        }
        if value.len() > Self::MOST {
            return Err(Invalid::TooLong);
        }
        // CR, LF and NUL would end a header and begin another one.
        if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(Invalid::Character);
        }
        if value.starts_with(b" ") || value.ends_with(b" ") {
            return Err(Invalid::Space);
        }
        Ok(Self(Zeroizing::new(value.into())))
    }

    /// Takes `value` without the line ends that files and commands put behind it.
    pub(super) fn line(value: &[u8]) -> Result<Self, Invalid> {
        let end = value
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
            .map_or(0, |last| last + 1);
        Self::new(value.get(..end).unwrap_or_default())
    }

    /// The value, for who may put it into a request.
    pub fn expose(&self, _permit: &InjectPermit<'_>) -> &[u8] {
        &self.0
    }

    /// Tells whether `text` has the value in it: a check before something is logged.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        memchr::memmem::find(text, &self.0).is_some()
    }

    /// Tells whether the values are the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    #[cfg(test)]
    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"ghp_abc\n", b"ghp_abc")]
    #[case(b"ghp_abc\r\n", b"ghp_abc")]
    #[case(b"ghp_abc\n\n\n", b"ghp_abc")]
    #[case(b"ghp_abc", b"ghp_abc")]
    #[case(b"correct horse", b"correct horse")]
    #[case(b"~!@#$%^&*()_+{}|:\"<>?", b"~!@#$%^&*()_+{}|:\"<>?")]
    fn takes_a_line(#[case] value: &[u8], #[case] expected: &[u8]) {
        assert_eq!(
            Secret::line(value)
                .ok()
                .map(|secret| secret.octets().to_vec()),
            Some(expected.to_vec())
        );
    }

    #[rstest]
    #[case(b"", Invalid::Empty)]
    #[case(b"\r\n", Invalid::Empty)]
    #[case(b"\nabc", Invalid::Character)]
    #[case(b"abc\nx-evil: 1", Invalid::Character)]
    #[case(b"abc\r\nx-evil: 1\r\n", Invalid::Character)]
    #[case(b"abc\0", Invalid::Character)]
    #[case(b"abc\t", Invalid::Character)]
    #[case("abc\u{e9}".as_bytes(), Invalid::Character)]
    #[case(b"\x7f", Invalid::Character)]
    #[case(b" abc", Invalid::Space)]
    #[case(b"abc \n", Invalid::Space)]
    fn refuses_what_no_header_can_carry(#[case] value: &[u8], #[case] why: Invalid) {
        assert_eq!(Secret::line(value).err(), Some(why));
    }

    #[test]
    fn takes_each_printable_octet_inside_and_no_other() {
        for octet in 0..=u8::MAX {
            let printable = (0x20..=0x7e).contains(&octet);
            assert_eq!(
                Secret::line(&[b'a', octet, b'b']).is_ok(),
                printable,
                "{octet}"
            );
        }
    }

    #[test]
    fn takes_no_more_than_its_bound() {
        let value = "a".repeat(Secret::MOST + 1).into_bytes();
        assert!(Secret::line(&value[1..]).is_ok());
        assert_eq!(Secret::line(&value).err(), Some(Invalid::TooLong));
    }
}
