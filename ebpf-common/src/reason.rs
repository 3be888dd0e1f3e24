//! Why a frame was dropped: one counter each.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// The reason of a drop; its number is its place in the counters' map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason in kebab case, as metrics and logs name it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// Shorter than the headers that it claims to have.
    Runt = "runt",
    /// Carries a VLAN tag, in the frame or beside it.
    Vlan = "vlan",
    /// The hardware source is not the sandbox's.
    LinkSource = "link-source",
    /// An IP packet to a group of stations.
    LinkDestination = "link-destination",
    /// Neither IPv4, IPv6 nor ARP.
    EtherType = "ethertype",
    /// Lengths or versions that contradict each other.
    Malformed = "malformed",
    /// IPv4 options.
    Options = "ip-options",
    /// A fragment, IPv4 or IPv6.
    Fragment = "fragment",
    /// An IPv6 extension header.
    ExtensionHeader = "extension-header",
    /// The source address is not one of the sandbox's.
    Source = "source-address",
    /// A destination that no connection can have.
    Destination = "destination-address",
    /// Neither TCP nor UDP.
    Protocol = "protocol",
    /// UDP to a port other than that of DNS.
    UdpPort = "udp-port",
    /// A combination of TCP flags that no connection uses, or port 0.
    TcpFlags = "tcp-flags",
    /// ARP that is not a truthful request.
    Arp = "arp",
    /// Neighbour discovery that is not a truthful solicitation.
    Neighbour = "neighbour-discovery",
    /// The question whether an address is free: nobody answers it.
    AddressProbe = "address-probe",
    /// The link belongs to no sandbox.
    UnknownLink = "unknown-link",
    /// The sandbox waits for a daemon that knows its policy.
    NotAdmitted = "not-admitted",
    /// No daemon listens.
    NoListener = "no-listener",
    /// More new connections or questions than the sandbox may ask for.
    Budget = "budget",
    /// To a sandbox, but not from the host, or not part of a recorded connection.
    Inbound = "inbound",
    /// Out of the gate, to an address that is no live sandbox's.
    ReturnAddress = "return-address",
    /// Out of the gate, but neither TCP, UDP nor a fragment.
    ReturnProtocol = "return-protocol",
    /// A kernel helper refused.
    Helper = "helper",
}

impl DropReason {
    /// The number of reasons: the size of the counters' map.
    #[expect(clippy::cast_possible_truncation, reason = "a few dozen")]
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The place of this reason in the counters' map.
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places() {
        for (place, reason) in (0..).zip(DropReason::ALL) {
            assert_eq!(reason.index(), place);
            assert!(
                reason
                    .as_str()
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            );
        }
    }
}
