//! The memory of one node, as the kernel accounts it to the node's QEMU process.
//!
//! libvirt knows a domain's balloon and its resident size, but not what KSM merged of it. The files
//! of `/proc` do: <https://docs.kernel.org/filesystems/proc.html>. Not everybody may read all of
//! them (libvirt runs QEMU as a user of its own), and older kernels lack one, so every number is
//! optional and comes with the reason when it is missing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fs_err as fs;
use uuid::Uuid;

use crate::host::process::ProcessIdentity;

/// The processes of a host.
#[derive(Clone, Debug)]
pub struct Processes {
    root: PathBuf,
}

impl Processes {
    /// The processes of the host this runs on.
    pub fn host() -> Self {
        Self::at(Path::new("/proc"))
    }

    /// The processes of a tree as in `/proc`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The QEMU process of every running domain by the domain's UUID, found by the `-uuid` that
    /// libvirt puts on QEMU's command line.
    ///
    /// # Errors
    /// If the directory itself cannot be read; processes that vanish meanwhile are passed over.
    pub fn qemu_by_uuid(&self) -> io::Result<BTreeMap<Uuid, u32>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(command_line) = fs::read(self.file(pid, "cmdline")) else { continue };
            if let Some(uuid) = qemu_uuid(&String::from_utf8_lossy(&command_line)) {
                found.insert(uuid, pid);
            }
        }
        Ok(found)
    }

    /// The memory of a process; `page_size` in bytes.
    pub fn memory(&self, pid: u32, page_size: u64) -> ProcessMemory {
        let mut missing = Vec::new();
        let mut number = |name: &str, parse: &dyn Fn(&str) -> Option<u64>| {
            let value = fs::read_to_string(self.file(pid, name))
                .map_err(|error| reason(name, &error))
                .and_then(|text| parse(&text).ok_or_else(|| format!("cannot understand `{name}`")));
            value.map_err(|reason| missing.push(reason)).ok()
        };
        let resident_bytes = number("status", &|text| kib_field(text, "VmRSS:"));
        let proportional_bytes = number("smaps_rollup", &|text| kib_field(text, "Pss:"));
        // Nobody but KSM lets one QEMU share anonymous memory with another.
        let shared_away_bytes = number("smaps_rollup", &|text| {
            let anonymous = kib_field(text, "Anonymous:")?;
            Some(anonymous.saturating_sub(kib_field(text, "Pss_Anon:")?))
        });
        let merged_bytes = number("ksm_merging_pages", &|text| {
            text.trim().parse::<u64>().ok().map(|pages| pages * page_size)
        });
        missing.dedup();
        if !self.root.join(pid.to_string()).exists() {
            missing = vec!["the process has ended".to_owned()];
        }
        ProcessMemory {
            resident_bytes,
            proportional_bytes,
            shared_away_bytes,
            merged_bytes,
            missing,
        }
    }

    /// What tells a process from a later one with the same number.
    pub(crate) fn identity(&self, pid: u32) -> ProcessIdentity {
        ProcessIdentity::in_tree(&self.root, pid)
    }

    fn file(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(name)
    }
}

/// What a process takes; what cannot be known is `None`, and `missing` says why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// All its pages in memory, merged or not, in bytes.
    pub resident_bytes: Option<u64>,
    /// The same with each shared page counted in parts, in bytes.
    pub proportional_bytes: Option<u64>,
    /// What its merged pages would take more if they were its own, in bytes: of a page that `n`
    /// processes use, each has been spared all but `1/n`. Needs Linux 5.3.
    pub shared_away_bytes: Option<u64>,
    /// Those of its pages that KSM made one with others, in bytes.
    pub merged_bytes: Option<u64>,
    /// Why numbers are missing.
    pub missing: Vec<String>,
}

/// The UUID of the domain if this command line (parts ended by NUL) is that of a QEMU.
fn qemu_uuid(command_line: &str) -> Option<Uuid> {
    let mut parts = command_line.split('\0');
    let program = parts.next()?.rsplit('/').next()?;
    if !QEMU_NAMES.iter().any(|name| program.starts_with(name)) {
        return None;
    }
    parts.find(|part| *part == "-uuid")?;
    parts.next()?.parse().ok()
}

/// A line `NAME:   123 kB` in bytes. The kernel's kB has 1024 bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn reason(name: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!("`{name}` is readable to root only"),
        ErrorKind::NotFound if name == "ksm_merging_pages" => {
            format!("this kernel has no `{name}` (Linux 5.19 and later have it)")
        }
        _ => format!("`{name}`: {error}"),
    }
}

/// What the emulator is called: `qemu-system-x86_64`, and `qemu-kvm` or `kvm` with some
/// distributions.
const QEMU_NAMES: [&str; 2] = ["qemu", "kvm"];

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3c6c7a52-6d6f-4f7a-9c4e-0d0f5ac1e5a1";

    fn tree(files: &[(u32, &str, &str)]) -> (tempfile::TempDir, Processes) {
        let dir = tempfile::tempdir().unwrap();
        for (pid, name, text) in files {
            let process = dir.path().join(pid.to_string());
            fs::create_dir_all(&process).unwrap();
            fs::write(process.join(name), text).unwrap();
        }
        fs::create_dir(dir.path().join("sys")).unwrap();
        let processes = Processes::at(dir.path());
        (dir, processes)
    }

    #[test]
    fn finds_the_qemu_of_a_domain_and_nobody_who_only_names_it() {
        let qemu = format!("/usr/bin/qemu-system-x86_64\0-name\0guest=lab-1\0-uuid\0{UUID}\0-S\0");
        let grep = format!("grep\0-uuid\0{UUID}\0");
        let vim = "qemu-img\0info\0-uuid\0nonsense\0";
        let (_dir, processes) = tree(&[
            (10, "cmdline", &grep),
            (11, "cmdline", &qemu),
            (12, "cmdline", vim),
            (13, "cmdline", ""),
        ]);
        let expected = BTreeMap::from([(UUID.parse().unwrap(), 11)]);
        assert_eq!(processes.qemu_by_uuid().unwrap(), expected);
    }

    #[test]
    fn reads_resident_proportional_and_merged_memory() {
        let (_dir, processes) = tree(&[
            (7, "status", "Name:\tqemu-system-x86\nVmHWM:\t  400000 kB\nVmRSS:\t  393216 kB\n"),
            (
                7,
                "smaps_rollup",
                "5600-7fff ---p 0 00:00 0 [rollup]\nRss:  393216 kB\nPss:  204800 kB\nPss_Dirty: 1 kB\n\
                 Pss_Anon: 180224 kB\nAnonymous:  368640 kB\n",
            ),
            (7, "ksm_merging_pages", "56064\n"),
        ]);
        let expected = ProcessMemory {
            resident_bytes: Some(384 << 20),
            proportional_bytes: Some(200 << 20),
            shared_away_bytes: Some(184 << 20),
            merged_bytes: Some(219 << 20),
            missing: vec![],
        };
        assert_eq!(processes.memory(7, 4096), expected);
    }

    #[test]
    fn says_why_a_number_is_missing() {
        let (dir, processes) = tree(&[(7, "status", "Name:\tzombie\n")]);
        // The real refusal of the kernel: a directory that even root may not read as a file does
        // not give it, an attribute of sysfs that can only be written does.
        let write_only = "/sys/bus/platform/uevent";
        std::os::unix::fs::symlink(write_only, dir.path().join("7/smaps_rollup")).unwrap();
        let expected = ProcessMemory {
            missing: [
                "cannot understand `status`",
                "`smaps_rollup` is readable to root only",
                "this kernel has no `ksm_merging_pages` (Linux 5.19 and later have it)",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..ProcessMemory::default()
        };
        assert_eq!(processes.memory(7, 4096), expected);
        assert_eq!(processes.memory(8, 4096).missing, ["the process has ended"]);
    }
}
