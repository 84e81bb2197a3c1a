//! What KSM does and what it has brought, in pages and in bytes.

use serde::Serialize;

use crate::ksm::settings::{Run, Settings};
use crate::output::Table;
use crate::units::{human_bytes, human_signed_bytes};

/// The numbers of KSM at one moment; in JSON with [`saved_bytes`](KsmStatus::saved_bytes) and
/// [`in_use_bytes`](KsmStatus::in_use_bytes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Report")]
pub struct KsmStatus {
    /// Whether pages are merged; `None` where only libvirt was asked, which does not say.
    pub run: Option<Run>,
    /// How many pages are looked at before each pause.
    pub pages_to_scan: u64,
    /// The length of the pause in milliseconds.
    pub sleep_millisecs: u64,
    /// Whether pages that found no twin are passed over for a while. Since Linux 6.7.
    pub smart_scan: Option<bool>,
    /// How many pages are in use in place of several.
    pub pages_shared: u64,
    /// How many more places use them: so many pages are saved.
    pub pages_sharing: u64,
    /// How many pages were looked at and have no twin.
    pub pages_unshared: u64,
    /// How many empty pages were replaced by the kernel's own (only with `use_zero_pages`, which
    /// is off by default); they are not in `pages_sharing`. Since Linux 6.6.
    pub zero_pages: Option<u64>,
    /// How many times all mergeable memory was looked through since boot.
    pub full_scans: u64,
    /// What the kernel says is gained after its own book-keeping, in bytes. Since Linux 6.4.
    pub general_profit_bytes: Option<i64>,
    /// The size of a page in bytes.
    pub page_size_bytes: u64,
}

impl KsmStatus {
    /// The memory that merging saves, in bytes.
    pub fn saved_bytes(&self) -> u64 {
        (self.pages_sharing + self.zero_pages.unwrap_or(0)) * self.page_size_bytes
    }

    /// The memory that the merged pages take, in bytes.
    pub fn in_use_bytes(&self) -> u64 {
        self.pages_shared * self.page_size_bytes
    }

    /// Whether pages are being merged now.
    pub fn is_running(&self) -> bool {
        self.run == Some(Run::Running)
    }

    /// What is set, all of it.
    pub fn settings(&self) -> Settings {
        Settings {
            run: self.run,
            pages_to_scan: Some(self.pages_to_scan),
            sleep_millisecs: Some(self.sleep_millisecs),
            smart_scan: self.smart_scan,
        }
    }

    /// The numbers of a remote host, from libvirt's
    /// [`virNodeGetMemoryParameters`](https://libvirt.org/html/libvirt-libvirt-host.html#virNodeGetMemoryParameters);
    /// `None` if it does not have them, as without KSM in that host's kernel.
    pub fn from_node_memory(parameters: &[(String, u64)], page_size_bytes: u64) -> Option<Self> {
        let number = |name: &str| {
            let name = format!("shm_{name}");
            parameters.iter().find(|(key, _)| *key == name).map(|&(_, value)| value)
        };
        Some(Self {
            run: None,
            pages_to_scan: number("pages_to_scan")?,
            sleep_millisecs: number("sleep_millisecs")?,
            smart_scan: None,
            pages_shared: number("pages_shared")?,
            pages_sharing: number("pages_sharing")?,
            pages_unshared: number("pages_unshared")?,
            zero_pages: None,
            full_scans: number("full_scans")?,
            general_profit_bytes: None,
            page_size_bytes,
        })
    }

    /// The numbers for people.
    pub fn table(&self) -> Table {
        let state = match self.run {
            Some(run) => run.name(),
            None => "unknown",
        };
        let speed =
            format!("{} pages, then a pause of {} ms", self.pages_to_scan, self.sleep_millisecs);
        let profit = self
            .general_profit_bytes
            .map_or_else(|| "not available".to_owned(), human_signed_bytes);
        let mut table = Table::new(&["ksm", "value"]);
        for (name, value) in [
            ("state", state.to_owned()),
            ("saved", human_bytes(self.saved_bytes())),
            ("in use", human_bytes(self.in_use_bytes())),
            ("profit", profit),
            ("without twin", human_bytes(self.pages_unshared * self.page_size_bytes)),
            ("full scans", self.full_scans.to_string()),
            ("speed", speed),
        ] {
            table.row([name.to_owned(), value]);
        }
        table
    }
}

/// The status as JSON and YAML show it: what people look for first, and units in the names.
#[derive(Serialize)]
struct Report {
    run: Option<Run>,
    saved_bytes: u64,
    in_use_bytes: u64,
    general_profit_bytes: Option<i64>,
    pages_shared: u64,
    pages_sharing: u64,
    pages_unshared: u64,
    zero_pages: Option<u64>,
    pages_to_scan: u64,
    sleep_millisecs: u64,
    smart_scan: Option<bool>,
    full_scans: u64,
    page_size_bytes: u64,
}

impl From<KsmStatus> for Report {
    fn from(status: KsmStatus) -> Self {
        Self {
            run: status.run,
            saved_bytes: status.saved_bytes(),
            in_use_bytes: status.in_use_bytes(),
            general_profit_bytes: status.general_profit_bytes,
            pages_shared: status.pages_shared,
            pages_sharing: status.pages_sharing,
            pages_unshared: status.pages_unshared,
            zero_pages: status.zero_pages,
            pages_to_scan: status.pages_to_scan,
            sleep_millisecs: status.sleep_millisecs,
            smart_scan: status.smart_scan,
            full_scans: status.full_scans,
            page_size_bytes: status.page_size_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> KsmStatus {
        KsmStatus {
            run: Some(Run::Running),
            pages_to_scan: 100,
            sleep_millisecs: 20,
            smart_scan: None,
            pages_shared: 56064,
            pages_sharing: 1_065_216,
            pages_unshared: 840_960,
            zero_pages: Some(0),
            full_scans: 37,
            general_profit_bytes: Some(-(2 << 20)),
            page_size_bytes: 4096,
        }
    }

    #[test]
    fn the_table_shows_what_is_saved() {
        let plain = |status: &KsmStatus| {
            anstream::adapter::strip_str(&status.table().to_string()).to_string()
        };
        insta::assert_snapshot!(plain(&status()), @"
        KSM           VALUE
        state         running
        saved         4.06 GiB
        in use        219 MiB
        profit        -2.00 MiB
        without twin  3.21 GiB
        full scans    37
        speed         100 pages, then a pause of 20 ms
        ");
        let other = KsmStatus { run: None, general_profit_bytes: None, ..status() };
        let text = plain(&other);
        assert!(text.contains("state         unknown\n"), "{text}");
        assert!(text.contains("profit        not available\n"), "{text}");
    }

    #[test]
    fn empty_pages_count_as_saved() {
        let with_zero_pages = KsmStatus { zero_pages: Some(256), ..status() };
        assert_eq!(with_zero_pages.saved_bytes(), status().saved_bytes() + (1 << 20));
    }

    #[test]
    fn a_remote_host_is_read_through_libvirt() {
        let parameters = [
            ("shm_pages_to_scan", 100),
            ("shm_sleep_millisecs", 20),
            ("shm_pages_shared", 56064),
            ("shm_pages_sharing", 1_065_216),
            ("shm_pages_unshared", 840_960),
            ("shm_pages_volatile", 12),
            ("shm_full_scans", 37),
            ("shm_merge_across_nodes", 1),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let expected =
            KsmStatus { run: None, zero_pages: None, general_profit_bytes: None, ..status() };
        assert_eq!(KsmStatus::from_node_memory(&parameters, 4096), Some(expected));
        assert_eq!(KsmStatus::from_node_memory(&parameters[1..], 4096), None);
        assert_eq!(KsmStatus::from_node_memory(&[], 4096), None);
    }
}
