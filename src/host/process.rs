//! Which process is meant: numbers are used again, so the time of its start belongs to it.

use std::path::Path;

use fs_err as fs;
use serde::{Deserialize, Serialize};

/// A process, told from a later one with the same number by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since the host was; `None` if there is no such process.
    #[serde(alias = "start_ticks")]
    pub started: Option<u64>,
}

impl ProcessIdentity {
    /// The process that has this number now. One of which only the exit status is left is none.
    pub fn of(pid: u32) -> Self {
        Self::in_tree(Path::new(PROC), pid)
    }

    /// The same in a tree as in `/proc`.
    pub fn in_tree(proc: &Path, pid: u32) -> Self {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok();
        Self { pid, started: stat.and_then(|stat| start_ticks(&stat)) }
    }

    /// This process.
    pub fn own() -> Self {
        Self::of(std::process::id())
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        self.started.is_some() && Self::of(self.pid) == *self
    }
}

/// Fields 3 (state), 20 (threads) and 22 (start) of `/proc/PID/stat`; proc(5). The second field is the name in
/// parentheses, which may hold anything. A process whose first thread has ended still has its files and locks until
/// its last one has.
fn start_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if (fields.first(), fields.get(17)) == (Some(&"Z"), Some(&"1")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

const PROC: &str = "/proc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_a_name_with_brackets() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 1";
        assert_eq!(start_ticks(stat), Some(987_654));
        assert_eq!(start_ticks(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let stat = "42 (a) Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 THREADS 0 987654 1 1";
        assert_eq!(start_ticks(&stat.replace("THREADS", "2")), Some(987_654));
        assert_eq!(start_ticks(&stat.replace("THREADS", "1")), None);
    }

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = ProcessIdentity::own();
        assert!(own.is_alive());
        assert!(!ProcessIdentity { started: Some(1), ..own }.is_alive());
        assert!(!ProcessIdentity { started: None, ..own }.is_alive());
    }

    #[test]
    fn what_earlier_versions_kept_is_read() {
        let old: ProcessIdentity = serde_json::from_str(r#"{"pid":7,"start_ticks":9}"#).unwrap();
        assert_eq!(old, ProcessIdentity { pid: 7, started: Some(9) });
    }
}
