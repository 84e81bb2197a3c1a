//! A bridge of the host that a lab attaches to. It is somebody else's: it is looked at, and never
//! made, changed or removed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use crate::error::hinted;

/// Checks that `bridge` is there, is a bridge and is up, and that QEMU's helper may attach to it
/// where `session` says that libvirt is the user's own (`qemu:///session`).
///
/// # Errors
/// If it is not so, with what to do about it.
pub fn require(bridge: &str, session: bool) -> Result<()> {
    check_interface(Path::new(INTERFACES), bridge)?;
    if session { check_helper(bridge, Path::new(ACL_FILE), &helper()) } else { Ok(()) }
}

/// Whether QEMU's helper may attach nodes of `qemu:///session` to this bridge.
pub(crate) fn is_allowed_in_session(bridge: &str) -> bool {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    is_allowed(&read(Path::new(ACL_FILE)), bridge, &read)
}

/// QEMU's bridge helper.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Helper {
    /// There is none.
    #[default]
    Missing,
    /// It is there, but has not got the rights that it needs.
    NotSetuid(PathBuf),
    /// It works.
    Ready,
}

/// Looks for QEMU's bridge helper.
pub(crate) fn helper() -> Helper {
    let mut found = HELPERS.iter().map(PathBuf::from).filter_map(|path| {
        let metadata = fs::metadata(&path).ok()?;
        Some((path, metadata.mode() & SETUID != 0))
    });
    match found.next() {
        None => Helper::Missing,
        Some((_, true)) => Helper::Ready,
        Some((path, false)) => Helper::NotSetuid(path),
    }
}

/// Whether the host has a network interface of this name.
pub fn exists(name: &str) -> bool {
    Path::new(INTERFACES).join(name).exists()
}

fn check_interface(interfaces: &Path, bridge: &str) -> Result<()> {
    let interface = interfaces.join(bridge);
    let is_name = !bridge.contains('/') && !bridge.starts_with('.') && !bridge.is_empty();
    if !is_name || !interface.is_dir() {
        return Err(hinted(
            format!("there is no bridge `{bridge}` on this host"),
            format!(
                "virtlab makes none: `sudo ip link add {bridge} type bridge` does until the next boot, \
                 or name another by --bridge (`ip -brief link show type bridge` lists them)"
            ),
        ));
    }
    // <https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-net>
    if !interface.join("bridge").is_dir() {
        return Err(hinted(
            format!("network interface `{bridge}` is no bridge"),
            "name the bridge that it is a port of by --bridge; `ip -brief link show type bridge` lists them",
        ));
    }
    let flags = fs::read_to_string(interface.join("flags"))?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
    if flags & IFF_UP == 0 {
        return Err(hinted(
            format!("bridge `{bridge}` is down"),
            format!("`sudo ip link set {bridge} up` switches it on"),
        ));
    }
    Ok(())
}

/// Without root, it is QEMU's setuid helper that makes the tap device, for bridges on its list.
/// <https://wiki.qemu.org/Features/HelperNetworking>
fn check_helper(bridge: &str, acl: &Path, helper: &Helper) -> Result<()> {
    match helper {
        Helper::Missing => {
            return Err(hinted(
                "qemu:///session needs QEMU's bridge helper, and there is none",
                "install `qemu-bridge-helper` (part of qemu-system-common), or use --connect qemu:///system",
            ));
        }
        Helper::NotSetuid(path) => {
            let path = path.display();
            return Err(hinted(
                format!(
                    "qemu:///session needs QEMU's bridge helper, and `{path}` is not setuid root"
                ),
                format!("`sudo chmod u+s {path}` allows it, or use --connect qemu:///system"),
            ));
        }
        Helper::Ready => {}
    }
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    if is_allowed(&read(acl), bridge, &read) {
        return Ok(());
    }
    Err(hinted(
        format!("qemu:///session may not attach nodes to bridge `{bridge}`"),
        format!("`{}` allows it, or use --connect qemu:///system", allow_command(bridge)),
    ))
}

/// Puts a bridge on the helper's list; Debian has no folder for it.
pub(crate) fn allow_command(bridge: &str) -> String {
    format!("sudo mkdir -p /etc/qemu && echo 'allow {bridge}' | sudo tee -a {ACL_FILE}")
}

/// Reads the helper's list: `allow NAME`, `deny NAME` (or `all`), `include FILE`; a denial wins,
/// and what is not named is denied.
fn is_allowed(text: &str, bridge: &str, read: &impl Fn(&Path) -> String) -> bool {
    let mut allowed = false;
    let mut texts = vec![text.to_owned()];
    let mut included = Vec::new();
    while let Some(text) = texts.pop() {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
            let means_it = name == bridge || name == "all";
            match verb {
                "allow" if means_it => allowed = true,
                "deny" if means_it => return false,
                "include" if !included.contains(&PathBuf::from(name)) => {
                    included.push(PathBuf::from(name));
                    texts.push(read(Path::new(name)));
                }
                _ => {}
            }
        }
    }
    allowed
}

const INTERFACES: &str = "/sys/class/net";
const ACL_FILE: &str = "/etc/qemu/bridge.conf";
/// Where Debian, Fedora and Arch have it.
const HELPERS: [&str; 3] = [
    "/usr/lib/qemu/qemu-bridge-helper",
    "/usr/libexec/qemu-bridge-helper",
    "/usr/local/libexec/qemu-bridge-helper",
];
/// chmod(2)
const SETUID: u32 = 0o4000;
/// netdevice(7)
const IFF_UP: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_must_be_there_be_one_and_be_up() {
        let folder = tempfile::tempdir().unwrap();
        for (name, flags) in
            [("br0/bridge", "0x1003\n"), ("br1/bridge", "0x1002\n"), ("eth0", "0x1003\n")]
        {
            let interface = folder.path().join(name.split('/').next().unwrap());
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(interface.join("flags"), flags).unwrap();
        }
        for (name, expected) in [
            ("br0", None),
            ("br1", Some("bridge `br1` is down")),
            ("eth0", Some("network interface `eth0` is no bridge")),
            ("br9", Some("there is no bridge `br9` on this host")),
            ("../net/br0", Some("there is no bridge `../net/br0` on this host")),
            ("", Some("there is no bridge `` on this host")),
        ] {
            let error = check_interface(folder.path(), name).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_helpers_list_is_read_as_qemu_reads_it() {
        let read = |path: &Path| match path.to_str() {
            Some("/etc/qemu/me.conf") => "allow br0\ninclude /etc/qemu/me.conf\n".to_owned(),
            _ => String::new(),
        };
        for (text, expected) in [
            ("allow br0", true),
            ("  allow   br0\n", true),
            ("allow all", true),
            ("# allow br0", false),
            ("allow br1", false),
            ("deny br0\nallow all", false),
            ("allow br0\ndeny all", false),
            ("include /etc/qemu/me.conf", true),
            ("", false),
        ] {
            assert_eq!(is_allowed(text, "br0", &read), expected, "{text}");
        }
    }

    #[test]
    fn a_session_without_the_list_or_the_helper_is_told_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let acl = folder.path().join("bridge.conf");
        let error = |helper: &Helper| {
            let error = check_helper("br0", &acl, helper).unwrap_err();
            (error.to_string(), crate::hint::hints(&error).join("\n"))
        };
        let (message, hint) = error(&Helper::Ready);
        assert_eq!(message, "qemu:///session may not attach nodes to bridge `br0`");
        assert_eq!(
            hint,
            "`sudo mkdir -p /etc/qemu && echo 'allow br0' | sudo tee -a /etc/qemu/bridge.conf` allows it, or use \
             --connect qemu:///system"
        );
        fs::write(&acl, "allow br0\n").unwrap();
        let (message, _) = error(&Helper::Missing);
        assert_eq!(message, "qemu:///session needs QEMU's bridge helper, and there is none");
        let (message, hint) = error(&Helper::NotSetuid("/usr/lib/qemu/helper".into()));
        assert_eq!(
            message,
            "qemu:///session needs QEMU's bridge helper, and `/usr/lib/qemu/helper` is not setuid root"
        );
        assert!(hint.starts_with("`sudo chmod u+s /usr/lib/qemu/helper` allows it"), "{hint}");
        check_helper("br0", &acl, &Helper::Ready).unwrap();
    }
}
