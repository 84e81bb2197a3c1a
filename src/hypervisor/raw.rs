//! libvirt calls that the `virt` crate does not wrap. The only unsafe code there is.
#![expect(unsafe_code, reason = "see the module's first line")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::{mem, ptr};

use virt::connect::Connect;
use virt::domain::Domain;
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

/// Sets our element in a network's metadata. `false` where the library is older than 9.7 and has no such
/// function; linked as usual, it would keep the program from starting there.
/// <https://libvirt.org/html/libvirt-libvirt-network.html#virNetworkSetMetadata>
pub(super) fn set_network_metadata(
    network: &Network,
    xml: &str,
    key: &str,
    uri: &str,
    flags: u32,
) -> Result<bool, Error> {
    type SetMetadata = unsafe extern "C" fn(
        sys::virNetworkPtr,
        c_int,
        *const c_char,
        *const c_char,
        *const c_char,
        c_uint,
    ) -> c_int;
    // SAFETY: the name ends with a zero; the handle of nothing means all libraries that are loaded.
    let function = unsafe { dlsym(ptr::null_mut(), c"virNetworkSetMetadata".as_ptr()) };
    if function.is_null() {
        return Ok(false);
    }
    // SAFETY: libvirt's function of this name has this type since it exists.
    let set_metadata = unsafe { std::mem::transmute::<*mut c_void, SetMetadata>(function) };
    let (xml, key, uri) = (CString::new(xml)?, CString::new(key)?, CString::new(uri)?);
    let kind = sys::VIR_NETWORK_METADATA_ELEMENT.cast_signed();
    // SAFETY: the network lives as long as `network`, and the texts end with a zero.
    let outcome = unsafe {
        let (xml, key, uri) = (xml.as_ptr(), key.as_ptr(), uri.as_ptr());
        set_metadata(network.as_ptr(), kind, xml, key, uri, flags)
    };
    if outcome < 0 { Err(Error::last_error()) } else { Ok(true) }
}

unsafe extern "C" {
    /// dlsym(3)
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// Sets limits of a domain's disk, which goes by this name in it.
/// <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainSetBlockIoTune>
pub(super) fn set_block_io_tune(
    domain: &Domain,
    disk: &str,
    limits: &[(&CStr, u64)],
    flags: u32,
) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    let (mut parameters, mut count, mut room) = (ptr::null_mut(), 0, 0);
    let mut outcome = 0;
    // SAFETY: the texts end with a zero, the domain lives as long as `domain`, and libvirt makes the array as large as it needs it;
    // it is freed once and not used after that.
    unsafe {
        for (name, value) in limits {
            let (all, count, room) = (&raw mut parameters, &raw mut count, &raw mut room);
            outcome |= sys::virTypedParamsAddULLong(all, count, room, name.as_ptr(), *value);
        }
        if outcome >= 0 {
            let (domain, disk) = (domain.as_ptr(), disk.as_ptr());
            outcome = sys::virDomainSetBlockIoTune(domain, disk, parameters, count, flags);
        }
        // It forgets the last error.
        let result = if outcome < 0 { Err(Error::last_error()) } else { Ok(()) };
        sys::virTypedParamsFree(parameters, count);
        result
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

/// What happened to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawEvent {
    pub(super) name: String,
    pub(super) kind: EventKind,
}

/// The events that make a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// It boots.
    Started,
    /// It was started where it was when its memory was saved.
    Restored,
    Suspended,
    Resumed,
    Stopped,
    Reset,
    /// Its metadata changed, which may be those of anybody.
    Marked,
}

/// Events are told until this is dropped.
pub(super) struct Watch {
    connection: Connect,
    callbacks: Vec<c_int>,
}

type Teller = Arc<dyn Fn(RawEvent) + Send + Sync>;

/// Calls `tell`, from the thread that runs libvirt's event loop, for each event of any domain.
/// <https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectDomainEventRegisterAny>
pub(super) fn watch_domains(
    connection: &Connect,
    tell: impl Fn(RawEvent) + Send + Sync + 'static,
) -> Result<Watch, Error> {
    let teller: Teller = Arc::new(tell);
    let mut watch = Watch { connection: connection.clone(), callbacks: Vec::new() };
    // SAFETY: libvirt casts the callback back to the type that belongs to the event's ID, which is that
    // of `on_lifecycle`.
    let lifecycle = unsafe {
        mem::transmute::<Lifecycle, unsafe extern "C" fn(_, _, *mut c_void)>(on_lifecycle)
    };
    watch.register(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, &teller)?;
    watch.register(sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot, &teller)?;
    // SAFETY: as above, with the type of `on_metadata`.
    let metadata =
        unsafe { mem::transmute::<Metadata, unsafe extern "C" fn(_, _, *mut c_void)>(on_metadata) };
    watch.register(sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, metadata, &teller)?;
    Ok(watch)
}

impl Watch {
    fn register(
        &mut self,
        event: sys::virDomainEventID,
        callback: unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        teller: &Teller,
    ) -> Result<(), Error> {
        let opaque = Box::into_raw(Box::new(Arc::clone(teller))).cast();
        // SAFETY: the connection is open; no domain means all of them; `opaque` lives until libvirt
        // gives it to `free_teller`.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connection.as_ptr(),
                ptr::null_mut(),
                event.try_into().unwrap_or(c_int::MAX),
                Some(callback),
                opaque,
                Some(free_teller),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt has not taken it.
            unsafe { free_teller(opaque) };
            return Err(error);
        }
        self.callbacks.push(id);
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for id in &self.callbacks {
            // SAFETY: the connection is open, and the number is one that it gave. On a connection that
            // is dead this fails, and closing it frees the callback.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), *id) };
        }
    }
}

type Lifecycle =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;

unsafe extern "C" fn on_lifecycle(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let kind = match sys::virDomainEventType::try_from(event) {
        Ok(sys::VIR_DOMAIN_EVENT_STARTED) => started(detail),
        Ok(sys::VIR_DOMAIN_EVENT_SUSPENDED) => EventKind::Suspended,
        Ok(sys::VIR_DOMAIN_EVENT_RESUMED) => EventKind::Resumed,
        Ok(sys::VIR_DOMAIN_EVENT_STOPPED) => EventKind::Stopped,
        _ => return 0,
    };
    // SAFETY: libvirt calls with a domain and with what was registered.
    unsafe { deliver(domain, kind, opaque) };
    0
}

/// <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventStartedDetailType>
fn started(detail: c_int) -> EventKind {
    match sys::virDomainEventStartedDetailType::try_from(detail) {
        Ok(
            sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED
            | sys::VIR_DOMAIN_EVENT_STARTED_RESTORED
            | sys::VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT,
        ) => EventKind::Restored,
        _ => EventKind::Started,
    }
}

unsafe extern "C" fn on_reboot(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt calls with a domain and with what was registered.
    unsafe { deliver(domain, EventKind::Reset, opaque) };
}

type Metadata =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *const c_char, *mut c_void);

unsafe extern "C" fn on_metadata(
    _connection: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    kind: c_int,
    _namespace: *const c_char,
    opaque: *mut c_void,
) {
    if kind == sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed() {
        // SAFETY: libvirt calls with a domain and with what was registered.
        unsafe { deliver(domain, EventKind::Marked, opaque) };
    }
}

/// # Safety
/// `domain` is one, and `opaque` is a `Teller` that is registered.
unsafe fn deliver(domain: sys::virDomainPtr, kind: EventKind, opaque: *mut c_void) {
    // SAFETY: as the caller promises; the name lives as long as the domain.
    let (teller, name) = unsafe {
        let name = sys::virDomainGetName(domain);
        if name.is_null() {
            return;
        }
        (&*opaque.cast::<Teller>(), CStr::from_ptr(name))
    };
    teller(RawEvent { name: name.to_string_lossy().into_owned(), kind });
}

unsafe extern "C" fn free_teller(opaque: *mut c_void) {
    // SAFETY: it was made by `register`, and is given here once.
    drop(unsafe { Box::from_raw(opaque.cast::<Teller>()) });
}
