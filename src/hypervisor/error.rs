//! libvirt's errors: what was being done, libvirt's bare text, and its code for hints and for
//! telling "already done" from "went wrong".

use anyhow::{Context, Result};
use virt::error::{Error, ErrorDomain, ErrorNumber};

use crate::host::libvirt_socket::SocketAccess;

/// What libvirt said, without the numbers that mean nothing to a user.
#[derive(Debug, thiserror::Error)]
#[error("{}", .error.message())]
pub struct LibvirtError {
    error: Error,
    /// What there was of libvirt's socket when a connection could not be opened.
    socket: Option<SocketAccess>,
}

impl From<Error> for LibvirtError {
    fn from(error: Error) -> Self {
        Self { error, socket: None }
    }
}

impl LibvirtError {
    /// The error of a connection that could not be opened.
    pub(super) fn of_open(error: Error, uri: Option<&str>) -> Self {
        Self { error, socket: uri.and_then(SocketAccess::of_uri) }
    }

    /// What there was of libvirt's socket when a connection could not be opened; `None` if there is none to
    /// look at on this host.
    pub fn socket(&self) -> Option<SocketAccess> {
        self.socket
    }

    /// Whether this is one of these errors.
    pub fn is_any(&self, codes: &[ErrorNumber]) -> bool {
        is_any(&self.error, codes)
    }

    /// Whether libvirt gives a network no IPv6, because the host's own route comes from router advertisements.
    /// libvirt has no code for this alone, so its text is looked at: for the name of the kernel's setting, which
    /// is the same in all languages.
    pub fn is_ipv6_refused(&self) -> bool {
        self.is_any(&[ErrorNumber::InternalError]) && self.error.message().contains("accept_ra")
    }

    /// Whether it came from the connection itself: no socket, nobody behind it, no permission.
    pub fn is_from_transport(&self) -> bool {
        self.error.domain().is(ErrorDomain::Rpc)
    }
}

/// Whether nothing is wrong but that the connection to libvirt was lost, or cannot be had now.
pub fn is_connection_lost(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<LibvirtError>());
    cause.is_some_and(|error| error.is_from_transport() && !error.is_any(&REFUSALS))
}

/// Whether libvirt gives a network no IPv6, because the host's own route comes from router advertisements.
pub fn is_ipv6_refused(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<LibvirtError>());
    cause.is_some_and(LibvirtError::is_ipv6_refused)
}

/// What the transport says of who may not connect, and of what it cannot carry.
const REFUSALS: [ErrorNumber; 5] = [
    ErrorNumber::AuthFailed,
    ErrorNumber::AuthUnavailable,
    ErrorNumber::AuthCancelled,
    ErrorNumber::NoSupport,
    ErrorNumber::Rpc,
];

/// Says what was being done when libvirt gave an error.
pub(super) trait Doing<T> {
    /// `what` is a gerund: "starting domain `demo-1`".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(LibvirtError::from).with_context(what)
    }
}

/// Turns some errors into "was done already".
pub(super) trait Already<T> {
    /// `None` where libvirt says that it is so already.
    fn already(self, codes: &[ErrorNumber]) -> Result<Option<T>, Error>;
}

impl<T> Already<T> for Result<T, Error> {
    fn already(self, codes: &[ErrorNumber]) -> Result<Option<T>, Error> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_any(&error, codes) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Turns "it is not in the state for that" into "was done already", if it was.
pub(super) trait Unless {
    /// libvirt says `OperationInvalid` of what was done already as of what cannot be done now; so whether the goal is
    /// `met` is looked at.
    fn unless(self, met: impl FnOnce() -> Result<bool, Error>) -> Result<(), Error>;
}

impl<T> Unless for Result<T, Error> {
    fn unless(self, met: impl FnOnce() -> Result<bool, Error>) -> Result<(), Error> {
        match self {
            Err(error) if is_any(&error, &[ErrorNumber::OperationInvalid]) => {
                if met()? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            other => other.map(drop),
        }
    }
}

pub(super) fn is_any(error: &Error, codes: &[ErrorNumber]) -> bool {
    codes.iter().any(|code| error.code().is(*code))
}

#[cfg(test)]
mod tests {
    use virt::connect::Connect;

    use super::*;

    #[test]
    fn what_libvirt_will_not_do_is_done_already_only_if_it_is_so() {
        virt::error::clear_error_callback();
        let connection = Connect::open(Some("test:///default")).unwrap();
        let pool = connection.lookup_storage_pool_by_name("default-pool").unwrap();
        // It is active from the start.
        let refused = || pool.create(0);
        assert!(is_any(&refused().unwrap_err(), &[ErrorNumber::OperationInvalid]));
        assert!(refused().unless(|| pool.is_active()).is_ok());
        let error = refused().unless(|| Ok(false)).unwrap_err();
        assert!(is_any(&error, &[ErrorNumber::OperationInvalid]));
        let other = connection.lookup_domain_by_name("none").unless(|| Ok(true)).unwrap_err();
        assert!(is_any(&other, &[ErrorNumber::NoDomain]));
    }
}
