//! libvirt's event loop: one thread of this process that looks after all of its connections. Keepalive and
//! events need it. <https://libvirt.org/html/libvirt-libvirt-event.html>

use std::sync::OnceLock;
use std::thread;

use virt::error::Error;
use virt::event;

/// Starts the loop, once for the process. libvirt wants this before the first connection is opened.
pub(super) fn start() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            event::event_register_default_impl()?;
            thread::spawn(run);
            Ok(())
        })
        .clone()
}

fn run() {
    loop {
        if let Err(error) = event::event_run_default_impl() {
            tracing::warn!("libvirt's event loop: {}", error.message());
        }
    }
}
