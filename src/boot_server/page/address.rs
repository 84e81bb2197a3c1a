//! Where a lab's page is, and what opens it: kept in the lab's folder, for its owner alone. A server that is started anew goes
//! on at the same place with the same keys, so that a page that is open goes on as well.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::files::{self, Readers};

/// Where a lab's page is, and its keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageAddress {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The folder of all its URLs. Cookies know no ports: with a path that nobody can guess, a browser sends the page's
    /// cookie to no other server of this computer.
    pub(super) path: String,
    /// Opens the page for whoever has it.
    pub(super) key: String,
    /// Opens the page for processes of this user only: other users can read the command line of a browser.
    pub(super) own_key: String,
}

impl PageAddress {
    /// A new one that nobody can guess.
    pub(super) fn new(port: u16) -> Self {
        Self { port, path: random(), key: random() + &random(), own_key: random() + &random() }
    }

    /// What a lab's folder says.
    ///
    /// # Errors
    /// If it says nothing that can be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join(FILE))?;
        serde_json::from_str(&text).context("reading where the lab's page is")
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("writing where the lab's page is")?;
        files::replace(&folder.join(FILE), &text, Readers::Owner)
    }

    /// The URL that opens the page, to be shown to its owner alone.
    pub fn url(&self) -> String {
        format!("{}?key={}", self.clean_url(), self.key)
    }

    /// The URL that opens the page for this user's browser, whoever reads its command line.
    pub fn own_url(&self) -> String {
        format!("{}?key={}", self.clean_url(), self.own_key)
    }

    /// The URL of the page once it is open.
    fn clean_url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.root())
    }

    /// The path of the page.
    pub(super) fn root(&self) -> String {
        format!("/{}/", self.path)
    }
}

impl std::fmt::Debug for PageAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageAddress").field("port", &self.port).finish_non_exhaustive()
    }
}

/// 122 bits of the kernel's randomness.
fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

const FILE: &str = "page.json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_by_its_owner_alone_and_logs_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let address = PageAddress::new(4711);
        address.write(folder.path()).unwrap();
        assert_eq!(PageAddress::read(folder.path()).unwrap(), address);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(format!("{address:?}"), "PageAddress { port: 4711, .. }");
        assert!(address.url().starts_with("http://127.0.0.1:4711/") && address.key.len() == 64);
        assert_ne!(PageAddress::new(4711), address);
    }
}
