//! Whose the other end of a connection on this computer is, as the kernel knows it.

use std::net::{SocketAddr, SocketAddrV4};

/// The user at the other end of a connection over IPv4, where that end is on this computer and can be told.
pub(crate) fn owner(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, local) else { return None };
    find(&fs_err::read_to_string("/proc/net/tcp").ok()?, peer, local)
}

/// Reads `/proc/net/tcp`; proc(5). Addresses are hexadecimal in the byte order of the machine. What is `peer` to us is local
/// to its owner.
fn find(sockets: &str, peer: SocketAddrV4, local: SocketAddrV4) -> Option<u32> {
    let name = |end: SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(end.ip().octets()), end.port())
    };
    let (own, other) = (name(peer), name(local));
    sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&own.as_str()) && fields.get(2) == Some(&other.as_str());
        fields.get(7).filter(|_| is_it)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_owner_of_the_other_end_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let stream = TcpStream::connect(local).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        assert_eq!(owner(peer, local), Some(rustix::process::getuid().as_raw()));
        let stranger = "127.0.0.1:1".parse().unwrap();
        assert_eq!(owner(stranger, local), None);
    }
}
