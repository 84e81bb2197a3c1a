//! SIGINT and SIGTERM where something has to be put in order before they end us.
//!
//! A signal that was caught once cannot be given back: without listeners it is ignored from then
//! on, not obeyed. So what listens only for a while says here how long, and before and after it the
//! signals do what they do to every program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// As long as it lives, the signals do not end us.
#[derive(Debug)]
pub struct Deferred(());

/// Holds the signals back.
///
/// # Errors
/// If the signals cannot be caught.
pub fn defer_signals() -> Result<Deferred> {
    count(|listeners| listeners + 1);
    let held = Deferred(());
    for signal in ALL {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&ENDS_US))
            .context("catching signals")?;
    }
    Ok(held)
}

/// From now on somebody else looks at the signals, to the end.
pub fn leave_to_others() {
    count(|listeners| listeners + 1);
}

impl Drop for Deferred {
    fn drop(&mut self) {
        count(|listeners| listeners - 1);
    }
}

fn count(change: impl FnOnce(usize) -> usize) {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    *listeners = change(*listeners);
    ENDS_US.store(*listeners == 0, Ordering::Relaxed);
}

/// The signals that ask us to end.
pub const ALL: [i32; 2] = [SIGINT, SIGTERM];
static LISTENERS: Mutex<usize> = Mutex::new(0);
static ENDS_US: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));
