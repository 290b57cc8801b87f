//! IPv4 ranges. Must not know the document.

use std::{fmt, net::Ipv4Addr};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: u32,
    prefix: u32,
}

impl Cidr {
    /// Reads `10.0.0.0/8`; an address inside the range is accepted in place of the first one.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u32 = prefix.parse().ok().filter(|p| *p <= 32)?;
        Some(Self {
            first: u32::from(address) & Self::mask(prefix),
            prefix,
        })
    }

    fn mask(prefix: u32) -> u32 {
        u32::MAX.checked_shl(32 - prefix).unwrap_or(0)
    }

    /// Its length in bits.
    pub fn prefix(self) -> u32 {
        self.prefix
    }

    /// Its first address.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first)
    }

    /// Its last address.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first | !Self::mask(self.prefix))
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & Self::mask(self.prefix) == self.first
    }

    /// Its lower and its upper half; none of a single address.
    pub fn halves(self) -> Option<(Self, Self)> {
        let prefix = self.prefix + 1;
        let upper = 1_u32.checked_shl(32_u32.checked_sub(prefix)?)?;
        let half = |first| Self { first, prefix };
        Some((half(self.first), half(self.first | upper)))
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        let mask = Self::mask(self.prefix.min(other.prefix));
        self.first & mask == other.first & mask
    }

    /// The same range one size up or down until `prefix` fits.
    pub fn with_prefix(self, prefix: u32) -> Self {
        Self {
            first: self.first & Self::mask(prefix),
            prefix,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse(text).expect(text)
    }

    #[test]
    fn reads_ranges() {
        assert_eq!(cidr("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(cidr("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(cidr("1.2.3.4/32").to_string(), "1.2.3.4/32");
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "256.0.0.0/8",
            "::/0",
            "1.2.3.4/-1",
        ] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn halves_and_ends() {
        let (lower, upper) = cidr("172.18.0.0/16").halves().expect("two");
        assert_eq!(lower, cidr("172.18.0.0/17"));
        assert_eq!(upper, cidr("172.18.128.0/17"));
        assert_eq!(upper.first().to_string(), "172.18.128.0");
        assert_eq!(upper.last().to_string(), "172.18.255.255");
        assert!(upper.contains([172, 18, 200, 1].into()));
        assert!(!upper.contains([172, 18, 1, 1].into()));
        assert!(cidr("1.2.3.4/32").halves().is_none());
        assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
    }

    #[test]
    fn finds_overlaps() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.128.0.0/16")));
        assert!(cidr("10.128.0.0/16").overlaps(cidr("10.0.0.0/8")));
        assert!(cidr("0.0.0.0/0").overlaps(cidr("1.2.3.4/32")));
        assert!(!cidr("10.0.0.0/9").overlaps(cidr("10.128.0.0/9")));
    }
}
