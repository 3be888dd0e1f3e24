//! A block of addresses.

use std::fmt;
use std::net::IpAddr;

/// A network address and a prefix length, with no bit set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is not a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("not a block of addresses such as 10.20.0.0/16 or fd00::/8")]
    Malformed,
    #[error("a prefix of no bits is every address there is")]
    Everything,
    #[error("bits are set behind the prefix; the block is {0}")]
    HostBits(Cidr),
}

impl Cidr {
    /// Parses `address/prefix`, or an address alone, which is a block of one.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| CidrError::Malformed)?;
        let prefix = match prefix {
            None => bits(address),
            Some(digits) => parse_prefix(digits)
                .filter(|prefix| *prefix <= bits(address))
                .ok_or(CidrError::Malformed)?,
        };
        if prefix == 0 {
            return Err(CidrError::Everything);
        }
        let block = Self {
            network: truncate(address, prefix),
            prefix,
        };
        if block.network == address {
            Ok(block)
        } else {
            Err(CidrError::HostBits(block))
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4()
            && truncate(address, self.prefix) == self.network
    }

    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The block of this length that holds the address.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Self {
        Self {
            network: truncate(address, prefix),
            prefix,
        }
    }
}

fn parse_prefix(digits: &str) -> Option<u8> {
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| canonical)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn truncate(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix.min(32)))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix.min(128)))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.20.0.0/16", "10.20.255.1", true)]
    #[case("10.20.0.0/16", "10.21.0.0", false)]
    #[case("10.20.0.1", "10.20.0.1", true)]
    #[case("10.20.0.1", "10.20.0.2", false)]
    #[case("128.0.0.0/1", "255.1.1.1", true)]
    #[case("fd00::/8", "fdff::1", true)]
    #[case("fd00::/8", "fe80::1", false)]
    #[case("::1/128", "::1", true)]
    #[case("10.0.0.0/8", "::ffff:10.0.0.1", false)]
    fn holds_its_addresses(#[case] block: &str, #[case] address: &str, #[case] expected: bool) {
        assert_eq!(
            Cidr::parse(block)
                .unwrap()
                .contains(address.parse().unwrap()),
            expected
        );
    }

    #[rstest]
    #[case("0.0.0.0/0", CidrError::Everything)]
    #[case("::/0", CidrError::Everything)]
    #[case("10.0.0.0/33", CidrError::Malformed)]
    #[case("10.0.0.0/08", CidrError::Malformed)]
    #[case("10.0.0.0/+8", CidrError::Malformed)]
    #[case("10.0.0.0/", CidrError::Malformed)]
    #[case("10.0/8", CidrError::Malformed)]
    #[case("example.com/8", CidrError::Malformed)]
    #[case("10.1.0.0/8", CidrError::HostBits(Cidr::parse("10.0.0.0/8").unwrap()))]
    fn refuses_malformed_blocks(#[case] text: &str, #[case] error: CidrError) {
        assert_eq!(Cidr::parse(text), Err(error));
    }
}
