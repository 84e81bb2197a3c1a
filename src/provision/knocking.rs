//! iPXE waits two seconds for Ctrl-B at each boot, and any other key ends that wait. So a node gets one again and again
//! from its power-on until it asks for its boot script, and none after that: the firmware empties its buffer, so a key
//! that comes too early is lost. `SeaBIOS` and OVMF take no notice of a space.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::boot_server::Server;
use crate::hypervisor::{Hypervisor, Keyboard};

/// Presses keys in a thread of its own, which lives as long as this.
pub(crate) struct Knocker {
    wake: SyncSender<()>,
}

impl Knocker {
    /// For the nodes that `server` serves.
    pub(crate) fn new(uri: Option<String>, server: Arc<Server>) -> Self {
        let (wake, woken) = mpsc::sync_channel(1);
        thread::spawn(move || {
            for () in woken {
                if let Err(error) = knock(uri.as_deref(), &server) {
                    tracing::warn!("iPXE waits for Ctrl-B: {error:#}");
                }
            }
        });
        Self { wake }
    }

    /// To be called when something happened to a node: it may have begun to boot.
    pub(crate) fn look(&self) {
        // One that is full already says the same.
        let _ = self.wake.try_send(());
    }
}

/// Presses keys until no node waits for one. The connection is open only meanwhile.
fn knock(uri: Option<&str>, server: &Server) -> Result<()> {
    if server.waiting_for_a_key().is_empty() {
        return Ok(());
    }
    let hypervisor = Hypervisor::open(uri)?;
    let lab = server.content().uuid;
    let mut keyboards: BTreeMap<String, Option<Keyboard>> = BTreeMap::new();
    loop {
        let waiting = server.waiting_for_a_key();
        if waiting.is_empty() {
            return Ok(());
        }
        for name in waiting {
            if !keyboards.contains_key(&name) {
                keyboards.insert(name.clone(), hypervisor.keyboard(lab, &name)?);
            }
            // Others may have taken their time since the last look.
            if !server.waiting_for_a_key().contains(&name) {
                continue;
            }
            let Some(Some(keyboard)) = keyboards.get(&name) else { continue };
            if let Err(error) = keyboard.press_space() {
                // Off again, or a machine without a keyboard.
                tracing::debug!("no key for {name}: {error:#}");
                keyboards.insert(name, None);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// How often a key is pressed: the prompt ends this much after it came, at most.
const PAUSE: Duration = Duration::from_millis(150);
