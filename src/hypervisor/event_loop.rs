//! libvirt's event loop: one thread of this process that looks after all of its connections. Keepalive and
//! events need it. <https://libvirt.org/html/libvirt-libvirt-event.html>

use std::sync::{Once, OnceLock};
use std::thread;

use virt::error::Error;
use virt::event;

/// Makes the loop libvirt's, once for the process. libvirt wants this before the first connection is opened.
pub(super) fn register() -> Result<(), Error> {
    static REGISTERED: OnceLock<Result<(), Error>> = OnceLock::new();
    REGISTERED.get_or_init(event::event_register_default_impl).clone()
}

/// Starts the loop, once for the process. While a connection is being opened it would only be woken for nothing, some
/// twenty times, so it starts when there is one to look after.
pub(super) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| drop(thread::spawn(run)));
}

fn run() {
    loop {
        if let Err(error) = event::event_run_default_impl() {
            tracing::warn!("libvirt's event loop: {}", error.message());
        }
    }
}
