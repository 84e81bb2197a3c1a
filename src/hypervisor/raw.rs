//! libvirt calls that the `virt` crate does not wrap. The only unsafe code there is.
#![expect(unsafe_code, reason = "see the module's first line")]

use std::ffi::{CStr, CString, c_void};
use std::ptr;

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

/// What libvirt tells of its host's memory as whole numbers, by name: KSM's, as `shm_…`.
/// <https://libvirt.org/html/libvirt-libvirt-host.html#virNodeGetMemoryParameters>
pub(super) fn node_memory_parameters(connection: &Connect) -> Result<Vec<(String, u64)>, Error> {
    let mut count = 0;
    // SAFETY: the connection is open; without an array libvirt writes to `count` alone.
    let outcome = unsafe {
        let pointer = connection.as_ptr();
        sys::virNodeGetMemoryParameters(pointer, ptr::null_mut(), &raw mut count, 0)
    };
    if outcome < 0 {
        return Err(Error::last_error());
    }
    // SAFETY: all of its fields are numbers, arrays or unions of numbers and pointers, for which
    // zero bytes are a value.
    let empty: sys::virTypedParameter = unsafe { std::mem::zeroed() };
    let mut parameters = vec![empty; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the array has room for the `count` parameters that libvirt may write.
    let outcome = unsafe {
        let pointer = connection.as_ptr();
        sys::virNodeGetMemoryParameters(pointer, parameters.as_mut_ptr(), &raw mut count, 0)
    };
    if outcome < 0 {
        return Err(Error::last_error());
    }
    parameters.truncate(usize::try_from(count).unwrap_or(0));
    Ok(parameters.iter().filter_map(whole_number).collect())
}

/// The MAC addresses of those who have a lease of libvirt's own DHCP server in this network.
/// <https://libvirt.org/html/libvirt-libvirt-network.html#virNetworkGetDHCPLeases>
pub(super) fn leases(network: &Network) -> Result<Vec<String>, Error> {
    let mut array: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network is a reference of ours; libvirt writes an array that is ours to free.
    let count =
        unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &raw mut array, 0) };
    let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
    let mut macs = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: libvirt gave `count` leases; each is ours to free, once; a MAC address is either
        // missing or ends with a zero.
        unsafe {
            let lease = *array.add(index);
            if !(*lease).mac.is_null() {
                macs.push(CStr::from_ptr((*lease).mac).to_string_lossy().into_owned());
            }
            sys::virNetworkDHCPLeaseFree(lease);
        }
    }
    // SAFETY: the array itself came from malloc(3), or is null.
    unsafe { free(array.cast()) };
    Ok(macs)
}

unsafe extern "C" {
    /// free(3)
    fn free(pointer: *mut c_void);
}

fn whole_number(parameter: &sys::virTypedParameter) -> Option<(String, u64)> {
    // SAFETY: libvirt ends the name within its array by a zero, and writes the member of the union
    // that `type_` names.
    let (name, value) = unsafe {
        let value = match sys::virTypedParameterType::try_from(parameter.type_).ok()? {
            sys::VIR_TYPED_PARAM_UINT => parameter.value.ui.into(),
            sys::VIR_TYPED_PARAM_ULLONG => parameter.value.ul,
            _ => return None,
        };
        (CStr::from_ptr(parameter.field.as_ptr()), value)
    };
    Some((name.to_string_lossy().into_owned(), value))
}
