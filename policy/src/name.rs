//! Canonical host names.
//!
//! A [`Name`] is what every later comparison uses: lower-case, without a trailing dot, of ASCII letters, digits,
//! `-`, `_` and `.` only. Everything else that a DNS name might hold (spaces, NUL, percent signs, U-labels) is
//! refused at the edge, before anything is compared, so that no two parsers can disagree about a name
//! afterwards. What looks like an address to some parser (`1.2.3.4`, `0x7f.1`, `2130706433`) is not a name:
//! its last label is a number, as the WHATWG URL standard puts it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A host name in canonical form. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why bytes are not a host name. Always the fault of who wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is longer than 253 bytes")]
    TooLong,
    #[error("a label is empty")]
    EmptyLabel,
    #[error("a label is longer than 63 bytes")]
    LabelTooLong,
    #[error("a label begins or ends with a hyphen")]
    Hyphen,
    #[error("the byte {:?} cannot be in a host name", char::from(*.0))]
    Byte(u8),
    #[error("the name is not ASCII; write its A-label form, which begins with xn--")]
    NotAscii,
    #[error("the last label is a number, so this is an address or looks like one")]
    Numeric,
}

impl Name {
    /// Parses a name as a peer or a policy wrote it: any case, at most one trailing dot.
    pub fn parse(text: &[u8]) -> Result<Self, NameError> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut name = String::with_capacity(text.len());
        let mut last = &b""[..];
        for label in text.split(|byte| *byte == b'.') {
            if !name.is_empty() {
                name.push('.');
            }
            push_label(&mut name, label)?;
            last = label;
        }
        if is_number(last) {
            return Err(NameError::Numeric);
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label, that without its first, and so on: `b.c` and `c` of `a.b.c`.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |name| {
            name.split_once('.').map(|(_, rest)| rest)
        })
        .skip(1)
    }

    pub(crate) fn labels(&self) -> usize {
        self.0.split('.').count()
    }
}

fn push_label(name: &mut String, label: &[u8]) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(NameError::LabelTooLong);
    }
    for byte in label {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                name.push(char::from(byte.to_ascii_lowercase()));
            }
            0x80.. => return Err(NameError::NotAscii),
            _ => return Err(NameError::Byte(*byte)),
        }
    }
    if label.starts_with(b"-") || label.ends_with(b"-") {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// `123` or `0x7f`: what a lenient parser of addresses takes for a part of one.
fn is_number(label: &[u8]) -> bool {
    let hexadecimal = label
        .strip_prefix(b"0x")
        .or_else(|| label.strip_prefix(b"0X"));
    hexadecimal.map_or_else(
        || label.iter().all(u8::is_ascii_digit),
        |digits| digits.iter().all(u8::is_ascii_hexdigit),
    )
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 1035, section 2.3.4: 255 bytes on the wire are 253 in text.
const MAX_NAME: usize = 253;
/// RFC 1035, section 2.3.4.
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("example.com", "example.com")]
    #[case("EXAMPLE.Com", "example.com")]
    #[case("example.com.", "example.com")]
    #[case("localhost", "localhost")]
    #[case("_acme.example.com", "_acme.example.com")]
    #[case("xn--bcher-kva.example", "xn--bcher-kva.example")]
    #[case("1.2.3.4.example", "1.2.3.4.example")]
    #[case("3com.com", "3com.com")]
    #[case("a.0x7fg", "a.0x7fg")]
    fn takes_names_in_canonical_form(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(Name::parse(text.as_bytes()).unwrap().as_str(), canonical);
    }

    #[rstest]
    #[case(b"", NameError::Empty)]
    #[case(b".", NameError::Empty)]
    #[case(b"..", NameError::EmptyLabel)]
    #[case(b"a..b", NameError::EmptyLabel)]
    #[case(b".a", NameError::EmptyLabel)]
    #[case(b"a.b..", NameError::EmptyLabel)]
    #[case(b"-a.b", NameError::Hyphen)]
    #[case(b"a-.b", NameError::Hyphen)]
    #[case(b"example.org.xn--", NameError::Hyphen)]
    #[case(b"a b.c", NameError::Byte(b' '))]
    #[case(b"a\0.c", NameError::Byte(0))]
    #[case(b"allowed.com\0.evil.com", NameError::Byte(0))]
    #[case(b"user@evil.com", NameError::Byte(b'@'))]
    #[case(b"a%2eb.com", NameError::Byte(b'%'))]
    #[case(b"evil.com#a.com", NameError::Byte(b'#'))]
    #[case(b"a.com:443", NameError::Byte(b':'))]
    #[case(b"a\\b.com", NameError::Byte(b'\\'))]
    #[case(b"*.a.com", NameError::Byte(b'*'))]
    #[case(b"[::1]", NameError::Byte(b'['))]
    #[case("b\u{fc}cher.example".as_bytes(), NameError::NotAscii)]
    #[case(b"127.0.0.1", NameError::Numeric)]
    #[case(b"127.1", NameError::Numeric)]
    #[case(b"2130706433", NameError::Numeric)]
    #[case(b"0x7f.1", NameError::Numeric)]
    #[case(b"0x7f000001", NameError::Numeric)]
    #[case(b"0X7F", NameError::Numeric)]
    #[case(b"a.0x", NameError::Numeric)]
    #[case(b"a.1.", NameError::Numeric)]
    fn refuses_what_is_no_name(#[case] text: &[u8], #[case] error: NameError) {
        assert_eq!(Name::parse(text), Err(error));
    }

    #[test]
    fn bounds_labels_and_names() {
        let label = "a".repeat(63);
        assert!(Name::parse(label.as_bytes()).is_ok());
        assert_eq!(
            Name::parse("a".repeat(64).as_bytes()),
            Err(NameError::LabelTooLong)
        );
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert!(Name::parse(name.as_bytes()).is_ok());
        assert_eq!(
            Name::parse(format!("{name}a").as_bytes()),
            Err(NameError::TooLong)
        );
    }

    #[test]
    fn admits_no_byte_but_those_of_the_list() {
        for byte in 0..=255 {
            for text in [
                &[byte, b'a', b'.', b'c'][..],
                &[b'a', byte, b'a', b'.', b'c'],
                &[b'a', b'.', b'c', byte],
            ] {
                let allowed = byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                assert!(Name::parse(text).is_err() || allowed, "{byte}");
            }
        }
    }

    #[test]
    fn lists_parents_from_the_nearest() {
        let name = Name::parse(b"a.b.c").unwrap();
        assert_eq!(name.parents().collect::<Vec<_>>(), ["b.c", "c"]);
    }

    proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(name) = Name::parse(&bytes) {
                prop_assert_eq!(&Name::parse(name.as_str().as_bytes()).unwrap(), &name);
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)));
                prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
            }
        }

        #[test]
        fn case_and_trailing_dot_do_not_matter(text in "[a-z0-9]{1,10}(\\.[a-z]{1,10}){1,4}") {
            let name = Name::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(&Name::parse(text.to_uppercase().as_bytes()).unwrap(), &name);
            prop_assert_eq!(&Name::parse(format!("{text}.").as_bytes()).unwrap(), &name);
        }
    }
}
