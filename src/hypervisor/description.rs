//! What libvirt says of itself.

use anyhow::Result;

use super::Hypervisor;
use super::error::Doing;

impl Hypervisor {
    /// The name of the driver, such as `QEMU`, and the version of what runs the guests, where it has one.
    pub fn driver(&self) -> Result<(String, Option<u32>)> {
        let connection = self.connection()?;
        let driver =
            connection.driver_type().doing(|| "asking libvirt for its driver".to_owned())?;
        Ok((driver, connection.hyp_version().ok()))
    }

    /// Whether a network keeps its options for dnsmasq: libvirt's test driver drops them.
    ///
    /// # Errors
    /// If the connection is lost.
    pub(crate) fn keeps_dnsmasq_options(&self) -> Result<bool> {
        Ok(!self.driver()?.0.eq_ignore_ascii_case("test"))
    }
}
