//! How many connections each machine has, so that one of them cannot take what all need.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// The connections of all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of a peer, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    peers: Peers,
    ip: IpAddr,
}

impl Peers {
    /// Counts one more connection of `ip`; `None` if it has `most` already.
    pub(super) fn admit(&self, ip: IpAddr, most: usize) -> Option<Counted> {
        let ip = ip.to_canonical();
        let mut counts = self.0.lock().expect("nobody panics with it");
        let count = counts.entry(ip).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { peers: self.clone(), ip })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().expect("nobody panics with it");
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_connections_and_no_more_until_one_ends() {
        let (peers, ip) = (Peers::default(), "10.0.0.2".parse().unwrap());
        let first = peers.admit(ip, 2);
        let second = peers.admit("::ffff:10.0.0.2".parse().unwrap(), 2);
        assert!(first.is_some() && second.is_some());
        assert!(peers.admit(ip, 2).is_none());
        let other = peers.admit("10.0.0.3".parse().unwrap(), 2);
        assert!(other.is_some());
        drop(first);
        assert!(peers.admit(ip, 2).is_some());
        drop((second, other));
        assert!(peers.0.lock().unwrap().is_empty());
    }
}
