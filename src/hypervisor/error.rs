//! libvirt's errors: what was being done, libvirt's bare text, and its code for hints and for
//! telling "already done" from "went wrong".

use anyhow::{Context, Result};
use virt::error::{Error, ErrorDomain, ErrorNumber};

/// What libvirt said, without the numbers that mean nothing to a user.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
pub struct LibvirtError(Error);

impl LibvirtError {
    /// Whether this is one of these errors.
    pub fn is_any(&self, codes: &[ErrorNumber]) -> bool {
        is_any(&self.0, codes)
    }

    /// Whether it came from the connection itself: no socket, nobody behind it, no permission.
    pub fn is_from_transport(&self) -> bool {
        self.0.domain().is(ErrorDomain::Rpc)
    }
}

/// Whether nothing is wrong but that the connection to libvirt was lost, or cannot be had now.
pub fn is_connection_lost(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<LibvirtError>());
    cause.is_some_and(|error| error.is_from_transport() && !error.is_any(&REFUSALS))
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
        self.map_err(LibvirtError).with_context(what)
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

pub(super) fn is_any(error: &Error, codes: &[ErrorNumber]) -> bool {
    codes.iter().any(|code| error.code().is(*code))
}
