//! What a DHCP server that is set up by nothing but our files has to know of its network.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

/// The addresses that a DHCP server gives out, with the network they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DhcpRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
    subnet: Ipv4Net,
}

impl DhcpRange {
    /// The first address.
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The last address.
    pub fn last(self) -> Ipv4Addr {
        self.last
    }

    /// The network.
    pub fn subnet(self) -> Ipv4Net {
        self.subnet
    }

    /// How many addresses there are.
    pub fn size(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

impl FromStr for DhcpRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (first, rest) = text.split_once('-')?;
            let (last, prefix) = rest.split_once('/')?;
            let first: Ipv4Addr = first.parse().ok()?;
            let subnet = Ipv4Net::new(first, prefix.parse().ok()?).ok()?.trunc();
            Some(Self { first, last: last.parse().ok()?, subnet })
        };
        let range = parse().ok_or_else(|| {
            format!("`{text}` is no range; write it like `10.77.0.100-10.77.0.199/24`")
        })?;
        let Self { first, last, subnet } = range;
        if first > last {
            return Err(format!("`{text}` ends before it begins"));
        }
        if !subnet.contains(&last) {
            return Err(format!("{last} is not in {subnet}, as {first} is"));
        }
        let usable = |ip| ip != subnet.network() && ip != subnet.broadcast();
        if subnet.prefix_len() > 30 || !usable(first) || !usable(last) {
            return Err(format!("`{text}` has addresses that no node of {subnet} can have"));
        }
        Ok(range)
    }
}

impl fmt::Display for DhcpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}/{}", self.first, self.last, self.subnet.prefix_len())
    }
}

/// The network of a DHCP server of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DhcpSite {
    /// What it gives out.
    pub range: DhcpRange,
    /// The network's way out, if there is one.
    pub router: Option<Ipv4Addr>,
    /// The network's name server, if there is one.
    pub dns: Option<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_network_with_it() {
        let range: DhcpRange = "10.77.0.100-10.77.0.199/24".parse().unwrap();
        assert_eq!(range.to_string(), "10.77.0.100-10.77.0.199/24");
        assert_eq!((range.subnet().to_string(), range.size()), ("10.77.0.0/24".to_owned(), 100));
    }

    #[test]
    fn a_range_that_no_network_has_is_refused() {
        let refuse = |text: &str| text.parse::<DhcpRange>().unwrap_err();
        for text in [
            "",
            "10.77.0.100",
            "10.77.0.100-10.77.0.199",
            "10.77.0.100/24",
            "a-b/24",
            "10.77.0.1-10.77.0.2/33",
        ] {
            assert_eq!(
                refuse(text),
                format!("`{text}` is no range; write it like `10.77.0.100-10.77.0.199/24`")
            );
        }
        assert_eq!(refuse("10.0.0.9-10.0.0.8/24"), "`10.0.0.9-10.0.0.8/24` ends before it begins");
        assert_eq!(
            refuse("10.0.0.9-10.0.1.8/24"),
            "10.0.1.8 is not in 10.0.0.0/24, as 10.0.0.9 is"
        );
        let text = "10.0.0.0-10.0.0.8/24";
        assert_eq!(
            refuse(text),
            format!("`{text}` has addresses that no node of 10.0.0.0/24 can have")
        );
    }
}
