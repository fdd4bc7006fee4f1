//! How far away an IP address is: what the internet may route, what belongs to a network of one's own, and what nobody
//! should be sent to. By the registries of special-purpose addresses (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The reach of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    Public,
    /// This machine or a private network.
    Private,
    /// Metadata services of clouds, multicast, and what is reserved.
    Never,
}

/// Metadata services within ranges that are private otherwise.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Ranges of IPv4 that are private.
const PRIVATE: [([u8; 4], u32); 5] = [
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
];

/// Ranges of IPv4 that are reserved. 169.254 is the links' own, with the metadata services of most clouds.
const RESERVED: [([u8; 4], u32); 9] = [
    ([0, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, the future, broadcast.
    ([224, 0, 0, 0], 3),
];

/// Ranges within 2000::/3, the public part of IPv6, that are not public. 2001::/23 and 2002::/16 have IPv4 addresses inside.
const NOT_PUBLIC: [(u128, u32); 4] = [
    (0x2001 << 112, 23),
    (0x2001_0db8 << 96, 32),
    (0x2002 << 112, 16),
    (0x3fff << 112, 20),
];

impl Reach {
    pub(crate) fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        match address {
            _ if METADATA.contains(&address) => Self::Never,
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let bits = u32::from(address);
        let within = |&(network, length): &([u8; 4], u32)| {
            (bits ^ u32::from_be_bytes(network)) >> (32 - length) == 0
        };
        match (PRIVATE.iter().any(within), RESERVED.iter().any(within)) {
            (true, _) => Self::Private,
            (_, true) => Self::Never,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let bits = u128::from(address);
        let within = |&(network, length): &(u128, u32)| (bits ^ network) >> (128 - length) == 0;
        let is_public = within(&(1 << 125, 3)) && !NOT_PUBLIC.iter().any(within);
        match is_public {
            true => Self::Public,
            false if address.is_loopback() || within(&(0xfc << 120, 7)) => Self::Private,
            false => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_its_reach() {
        let cases = [
            (
                Reach::Public,
                "1.1.1.1 93.184.215.14 100.128.0.1 172.32.0.1 192.0.1.1 223.255.255.255",
            ),
            (
                Reach::Public,
                "2606:4700::1111 2001:4860:4860::8888 2400::1 ::ffff:1.1.1.1",
            ),
            (
                Reach::Private,
                "10.0.0.1 127.0.0.1 127.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1",
            ),
            (
                Reach::Private,
                "::1 fc00::1 fdff::1 ::ffff:127.0.0.1 ::ffff:192.168.0.1",
            ),
            (
                Reach::Never,
                "0.0.0.0 169.254.169.254 100.100.100.200 192.0.0.192 224.0.0.1 240.0.0.1 255.255.255.255",
            ),
            (
                Reach::Never,
                "192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 192.88.99.1",
            ),
            (
                Reach::Never,
                ":: fe80::1 fec0::1 ff02::1 fd00:ec2::254 64:ff9b::7f00:1 ::127.0.0.1 ::ffff:169.254.169.254",
            ),
            (
                Reach::Never,
                "2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 100::1 4000::1",
            ),
        ];
        for (reach, addresses) in cases {
            for address in addresses.split(' ') {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }
}
