//! libvirt's version, which decides what may be in its XML.

use std::fmt;

/// A version of libvirt. They are ordered as they came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibvirtVersion(u32);

impl LibvirtVersion {
    /// The oldest one that virtlab works with. What is newer is used only where it is there.
    pub const OLDEST: Self = Self::new(8, 0, 0);

    /// The version `major.minor.release`.
    pub const fn new(major: u32, minor: u32, release: u32) -> Self {
        Self(major * 1_000_000 + minor * 1000 + release)
    }
}

impl From<u32> for LibvirtVersion {
    /// From libvirt's own number.
    /// <https://libvirt.org/html/libvirt-libvirt-host.html#virConnectGetLibVersion>
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for LibvirtVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1000 % 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_written_as_libvirt_does() {
        assert_eq!(LibvirtVersion::from(11_003_000).to_string(), "11.3.0");
        assert!(LibvirtVersion::new(9, 10, 0) > LibvirtVersion::new(9, 7, 0));
        assert!(LibvirtVersion::OLDEST < LibvirtVersion::new(8, 0, 1));
    }
}
