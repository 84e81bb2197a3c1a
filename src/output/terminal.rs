//! How large a terminal is.

use std::os::fd::AsFd;

/// How many characters there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Size {
    /// That of the terminal at `stream` now; for what it does not say, if it is one, that of 80×24.
    pub(crate) fn of(stream: impl AsFd) -> Self {
        let known = rustix::termios::tcgetwinsize(stream).ok();
        let told = |cells: Option<u16>| cells.filter(|cells| *cells > 0).map(usize::from);
        Self {
            rows: told(known.map(|size| size.ws_row)).unwrap_or(24),
            columns: told(known.map(|size| size.ws_col)).unwrap_or(80),
        }
    }
}
