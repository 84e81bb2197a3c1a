//! Who asks. A node is known by its address where we gave it that address, and by the MAC address that the kernel sees
//! on the wire where somebody else did. In both cases the kernel must see the node's MAC address, and on the lab's own
//! bridge. What a machine says of itself (iPXE's `mac=`) counts only behind a router, and only if the lab allows it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::Method;
use axum::http::request::Parts;

use super::content::{Content, ServedNode};
use crate::host::neighbour::Neighbour;
use crate::lab::MacAddr;

/// Who asks: the address and, from iPXE, the MAC address. Only who gets what it asks for reaches a
/// stage by it: `HEAD` is answered as `GET` is, and changes nothing (RFC 9110, 9.2.1).
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ip: IpAddr,
    pub(super) mac: Option<MacAddr>,
    pub(super) is_get: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
    type Rejection = <ConnectInfo<SocketAddr> as FromRequestParts<S>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(parts, state).await?;
        let ip = peer.ip().to_canonical();
        Ok(Self { ip, mac: None, is_get: parts.method == Method::GET })
    }
}

impl Asking {
    /// Whether it is this host itself: who connects to an address of its own computer has that address.
    pub(super) fn is_host(&self, content: &Content) -> bool {
        self.ip == content.address || self.ip.is_loopback()
    }

    /// The node that asks, by its place in the content. `neighbour` looks up who has an address on an
    /// interface, and `seen_at` the node that was last seen with an address.
    pub(super) fn node(
        &self,
        content: &Content,
        neighbour: fn(IpAddr, Option<&str>) -> Neighbour,
        seen_at: impl FnOnce(IpAddr) -> Option<u32>,
    ) -> Option<usize> {
        let nodes = &content.nodes;
        let neighbour = || neighbour(self.ip, content.interface.as_deref());
        if let Some(place) = nodes.iter().position(|node| node.ip == Some(self.ip)) {
            let is_it = match neighbour() {
                Neighbour::OnWire(mac) => mac == nodes[place].mac,
                // Whoever has finished a handshake from an address of the lab's own subnet was on its bridge.
                Neighbour::Unknown => true,
                Neighbour::Elsewhere | Neighbour::Routed => false,
            };
            return is_it.then_some(place);
        }
        let find = |is_it: &dyn Fn(&ServedNode) -> bool| {
            nodes.iter().position(|node| node.ip.is_none() && is_it(node))
        };
        find(&|_| true)?;
        let claimed = match neighbour() {
            Neighbour::OnWire(mac) => Some(mac),
            Neighbour::Routed if content.trust_claimed_mac => self.mac,
            Neighbour::Unknown | Neighbour::Elsewhere | Neighbour::Routed => return None,
        };
        if let Some(mac) = claimed {
            return find(&|node| node.mac == mac);
        }
        // Behind a router: the address that the node's own iPXE asked from before.
        let seen = seen_at(self.ip)?;
        find(&|node| node.index == seen)
    }
}
