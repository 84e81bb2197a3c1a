//! libvirt's sockets on this host: whether anybody listens, and whether we may connect.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// What there is of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAccess {
    /// There is none: libvirt does not run here, or is not installed.
    Absent,
    /// It is there, for others.
    Denied,
    /// It is there, and we may connect to it.
    Granted,
}

impl SocketAccess {
    /// What there is of the sockets that a URI without a host leads to; `None` for one with a host.
    /// <https://libvirt.org/uri.html#qemu-and-kvm-uris>
    pub fn of_uri(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        if !rest.starts_with('/') || !scheme.starts_with("qemu") {
            return None;
        }
        let socket = rest.split(['?', '&', ';']).find_map(|part| part.strip_prefix("socket="));
        let paths = match socket {
            Some(path) => vec![PathBuf::from(path)],
            None => SYSTEM_SOCKETS.map(PathBuf::from).to_vec(),
        };
        Some(Self::of(&paths))
    }

    /// The best of these sockets.
    fn of(paths: &[PathBuf]) -> Self {
        let of = |path: &PathBuf| {
            if is_absent(path) {
                Self::Absent
            } else if access(path, Access::WRITE_OK).is_ok() {
                Self::Granted
            } else {
                Self::Denied
            }
        };
        let found: Vec<Self> = paths.iter().map(of).collect();
        let best = [Self::Granted, Self::Denied].into_iter().find(|best| found.contains(best));
        best.unwrap_or(Self::Absent)
    }
}

/// A folder that may not be looked into may hold a socket, for others.
fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Of the modular daemon and of the monolithic one.
const SYSTEM_SOCKETS: [&str; 2] = ["/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"];

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let uri = format!("qemu+unix:///system?socket={}", path.display());
        assert_eq!(SocketAccess::of_uri(&uri), Some(SocketAccess::Absent));
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(SocketAccess::of_uri(&uri), Some(SocketAccess::Granted));
    }

    #[test]
    fn other_drivers_and_hosts_have_no_socket_here() {
        for uri in ["qemu+ssh://host/system", "test:///default", "nonsense", "qemu+tcp://[::1]/x"] {
            assert_eq!(SocketAccess::of_uri(uri), None, "{uri}");
        }
    }
}
