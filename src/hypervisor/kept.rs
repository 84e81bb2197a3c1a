//! What libvirt keeps of an object, beside what of it runs.

use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::error::is_any;

/// What is kept; a driver may have one XML only.
pub(super) fn kept_or_only(
    read: impl Fn(u32) -> Result<String, Error>,
    inactive: u32,
) -> Result<String, Error> {
    match read(inactive) {
        Err(error) if is_any(&error, &[ErrorNumber::InvalidArg, ErrorNumber::NoSupport]) => read(0),
        other => other,
    }
}

/// What is kept of a domain.
pub(super) fn kept_domain(domain: &Domain) -> Result<String, Error> {
    kept_or_only(|flags| domain.xml_desc(flags), sys::VIR_DOMAIN_XML_INACTIVE)
}
