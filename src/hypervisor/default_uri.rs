//! Where virtlab connects to if nobody says it: the host's own libvirt. libvirt's choice for an ordinary user
//! would be `qemu:///session`, where a lab can have no network of its own.

use std::path::PathBuf;

use etcetera::BaseStrategy;
use fs_err as fs;

/// The URI to open: the one that was asked for, or [`DEFAULT`]. `None` where libvirt's client configuration
/// names one, which libvirt then reads itself.
pub(super) fn resolve(asked: Option<&str>) -> Option<String> {
    let named = asked.map(ToOwned::to_owned).filter(|uri| !uri.is_empty());
    named.or_else(|| (!is_configured()).then(|| DEFAULT.to_owned()))
}

/// Whether `uri_default` is set. <https://libvirt.org/uri.html#default-uri-choice>
fn is_configured() -> bool {
    if std::env::var_os("LIBVIRT_DEFAULT_URI").is_some_and(|uri| !uri.is_empty()) {
        return true;
    }
    let text = config_file().and_then(|path| fs::read_to_string(path).ok());
    text.is_some_and(|text| names_a_uri(&text))
}

/// libvirt reads one file: root's is the host's.
fn config_file() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/etc/libvirt/libvirt.conf"));
    }
    let strategy = etcetera::choose_base_strategy().ok()?;
    Some(strategy.config_dir().join("libvirt/libvirt.conf"))
}

/// `uri_default = "qemu:///system"`, not behind a `#`.
fn names_a_uri(config: &str) -> bool {
    let value = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "uri_default").then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    config.lines().filter_map(value).any(|uri| !uri.is_empty())
}

/// The host's own libvirt, whose networks and storage pools are there for all users of the group.
const DEFAULT: &str = "qemu:///system";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_taken() {
        assert_eq!(resolve(Some("test:///default")).as_deref(), Some("test:///default"));
    }

    #[test]
    fn the_client_configuration_is_read_as_libvirt_reads_it() {
        for (text, expected) in [
            ("uri_default = \"qemu:///session\"", true),
            ("  uri_default='qemu+ssh://host/system'\n", true),
            ("#uri_default = \"qemu:///system\"", false),
            ("uri_default = \"\"", false),
            ("uri_aliases = [ \"a=qemu+ssh://a/system\" ]", false),
            ("", false),
        ] {
            assert_eq!(names_a_uri(text), expected, "{text}");
        }
    }
}
