//! libvirt calls that the `virt` crate does not wrap. The only unsafe code there is.
#![expect(unsafe_code, reason = "see the module's first line")]

use std::ffi::CString;

use virt::connect::Connect;
use virt::error::Error;
use virt::network::Network;
use virt::sys;

/// Defines a network after checking its XML against libvirt's schema.
/// <https://libvirt.org/html/libvirt-libvirt-network.html#virNetworkDefineXMLFlags>
pub(super) fn define_network_validated(connection: &Connect, xml: &str) -> Result<Network, Error> {
    let xml = CString::new(xml)?;
    // SAFETY: the connection is open for as long as `connection` lives and `xml` is terminated by
    // a zero; the network that libvirt gives is a reference of our own, which `Network` frees.
    unsafe {
        let network = sys::virNetworkDefineXMLFlags(
            connection.as_ptr(),
            xml.as_ptr(),
            sys::VIR_NETWORK_DEFINE_VALIDATE,
        );
        if network.is_null() { Err(Error::last_error()) } else { Ok(Network::from_ptr(network)) }
    }
}
