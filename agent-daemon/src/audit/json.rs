//! Writing JSON straight into a line.
//!
//! Strings come out as visible ASCII: quotes, backslashes, control characters
//! and everything beyond ASCII are escaped, so that a record is one line in
//! every editor and terminal, whatever a tenant put into it.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// Appends `,"key":`; `key` needs no escaping.
pub(super) fn key(line: &mut Vec<u8>, key: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(key.as_bytes());
    line.extend_from_slice(b"\":");
}

/// Appends `,"key":"value"` with `value` cut to `max` bytes.
pub(super) fn text(line: &mut Vec<u8>, name: &str, value: &str, max: usize) {
    key(line, name);
    string(line, value, max);
}

/// Appends `,"key":number`.
pub(super) fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    key(line, name);
    digits(line, value);
}

pub(super) fn digits(line: &mut Vec<u8>, value: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a quoted string cut to `max` bytes, the cut marked by an ellipsis.
pub(super) fn string(line: &mut Vec<u8>, value: &str, max: usize) {
    line.push(b'"');
    let kept = value.get(..value.floor_char_boundary(max)).unwrap_or(value);
    ascii(line, kept);
    if kept.len() < value.len() {
        line.extend_from_slice(b"\\u2026");
    }
    line.push(b'"');
}

/// Appends the text as visible ASCII with JSON's escapes.
pub(crate) fn ascii(line: &mut Vec<u8>, value: &str) {
    // Without a short cut, so that the compiler takes many bytes at once.
    if value.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        line.extend_from_slice(value.as_bytes());
        return;
    }
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend_from_slice(&[b'\\', c as u8]),
            ' '..='~' => line.push(c as u8),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a vector cannot fail.
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
}

/// Appends `,"key":"address:port"`.
pub(super) fn address(line: &mut Vec<u8>, name: &str, address: SocketAddr) {
    key(line, name);
    line.push(b'"');
    match address.ip() {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    line.push(b'.');
                }
                digits(line, octet.into());
            }
        }
        IpAddr::V6(ip) => {
            let _ = write!(line, "[{ip}]");
        }
    }
    line.push(b':');
    digits(line, address.port().into());
    line.push(b'"');
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}
