//! Ranges of ports as firewalls write them.

/// Ports from the first to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Ports {
    /// Reads `80`, `80-90` and `80:90`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
    }

    pub(super) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// With `separator` between the first and the last one, if there is more than one.
    pub(super) fn display(self, separator: char) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}{separator}{}", self.first, self.last)
        }
    }
}

/// Whether `80,443/tcp`, `8470-8869/tcp` or `22` (any protocol) has this port of this protocol.
pub(super) fn has_port(list: &str, port: u16, protocol: &str) -> bool {
    let (ports, of) = list.rsplit_once('/').unwrap_or((list, protocol));
    of == protocol && ports.split(',').filter_map(Ports::parse).any(|range| range.contains(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_both_firewalls_spellings() {
        for (list, has) in [
            ("8470-8869/tcp", true),
            ("8470:8869/tcp", true),
            ("80,8500/tcp", true),
            ("8500", true),
            ("8500/udp", false),
            ("80,443/tcp", false),
            ("Anywhere", false),
        ] {
            assert_eq!(has_port(list, 8500, "tcp"), has, "{list}");
        }
    }
}
