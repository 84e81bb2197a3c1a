//! Members that come and go: a node that lost its memory has to be taken out of its cluster and added
//! again, since etcd lets no member start twice from nothing.
//!
//! <https://etcd.io/docs/v3.4/op-guide/runtime-configuration/>

use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result};

use super::api::Api;
use super::{Endpoint, Member};
use crate::cluster::on_each;
use crate::error::all_errors;

/// What the other members of a cluster say.
#[derive(Debug)]
pub enum Outlook {
    /// No other member answers: there is no cluster, or none any more.
    Silent,
    /// Some answer, but too few to agree on anything.
    NoQuorum,
    /// A majority of the members works together.
    Healthy(Cluster),
}

/// A cluster that can be asked and changed.
#[derive(Debug)]
pub struct Cluster {
    api: Api,
    /// The member that is asked.
    via: Endpoint,
    /// All members.
    pub members: Vec<Member>,
}

/// A member as `initial-cluster` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The member's name.
    pub name: String,
    /// Where the other members reach it.
    pub url: String,
}

impl Outlook {
    /// Asks `peers`, the other nodes of the lab, all at the same time. A member calls itself healthy only
    /// while a majority agrees. Takes 5 seconds where one of them does not answer.
    ///
    /// # Errors
    /// If a healthy member does not tell who the members are.
    pub fn of(peers: &[Endpoint]) -> Result<Self> {
        let mut api = Api::new()?;
        // A founder that waits for the others takes connections and answers nothing, so both are asked at once.
        let asked = on_each(peers, |peer| {
            thread::scope(|scope| {
                let answers = scope.spawn(|| api.answers(peer));
                let healthy = api.is_healthy(peer).is_ok() && !api.is_learner(peer);
                (healthy, answers.join().expect("asking does not panic") || healthy)
            })
        });
        let mut refused = None;
        for (via, _) in peers.iter().zip(&asked).filter(|(_, (healthy, _))| *healthy) {
            match api.members(via) {
                Ok(members) => {
                    return Ok(Self::Healthy(Cluster { api, via: via.clone(), members }));
                }
                Err(error) => refused = Some(error.context(format!("asking {}", via.name))),
            }
        }
        match refused {
            Some(error) => Err(error),
            None if asked.iter().any(|(_, answers)| *answers) => Ok(Self::NoQuorum),
            None => Ok(Self::Silent),
        }
    }
}

impl Cluster {
    /// The member that a node with this address is, whether or not it has started.
    pub fn member_on(&self, ip: IpAddr) -> Option<&Member> {
        self.members.iter().find(|member| member.is_on(ip))
    }

    /// Takes the members that the node was out of the cluster, adds it as a new one, and gives the whole
    /// cluster as the node has to name it. It is added as a learner, which no majority has to wait for;
    /// [`Self::promote`] makes it a full member once it has all data.
    ///
    /// # Errors
    /// If etcd refuses, as it does where the cluster would lose its majority, and within 5 s of the loss of
    /// a connection between members. Asking again goes on where this ended.
    pub fn readd(&mut self, node: &Endpoint, nodes: &[Endpoint]) -> Result<Vec<Peer>> {
        self.remove(node.ip)?;
        let url = node.peer_url();
        self.api.add_learner(&self.via, &url).with_context(|| format!("adding {}", node.name))?;
        self.members = self.api.members(&self.via)?;
        Ok(self.peers(nodes))
    }

    /// Takes the members that run on this address out of the cluster.
    ///
    /// # Errors
    /// If etcd refuses.
    pub fn remove(&mut self, ip: IpAddr) -> Result<()> {
        for member in self.members.iter().filter(|member| member.is_on(ip)) {
            let removed = self.api.remove_member(&self.via, &member.id);
            removed.with_context(|| format!("removing member {} ({ip})", member.id))?;
        }
        self.members.retain(|member| !member.is_on(ip));
        Ok(())
    }

    /// Takes a node that goes out of the cluster, by its name and by its address where that is known.
    ///
    /// # Errors
    /// If etcd refuses, as in [`Self::readd`].
    pub fn remove_node(&mut self, name: &str, ip: Option<IpAddr>) -> Result<()> {
        let is_node =
            |member: &Member| member.name == name || ip.is_some_and(|ip| member.is_on(ip));
        for member in self.members.iter().filter(|member| is_node(member)) {
            let removed = self.api.remove_member(&self.via, &member.id);
            removed.with_context(|| format!("removing member {} ({name})", member.id))?;
        }
        self.members.retain(|member| !is_node(member));
        Ok(())
    }

    /// Whether the members can be changed: etcd's v2 API alone is not enough.
    pub fn can_change(&self) -> bool {
        self.api.has_v3()
    }

    /// Makes learners that have all data full members.
    ///
    /// # Errors
    /// Why etcd refused, for each of them: most likely it has not all data yet.
    pub fn promote(&self) -> Result<()> {
        let learners = self.members.iter().filter(|member| member.learner);
        let promoted = learners.map(|member| {
            let promoted = self.api.promote(&self.via, &member.id);
            promoted.with_context(|| format!("making learner {} a full member", member.id))
        });
        all_errors(promoted.collect())
    }

    /// All members as `initial-cluster` names them. One that has not started yet has no name but that of
    /// its node.
    pub fn peers(&self, nodes: &[Endpoint]) -> Vec<Peer> {
        let name = |member: &Member| {
            let node = nodes.iter().find(|node| member.is_on(node.ip));
            node.map_or(member.name.clone(), |node| node.name.clone())
        };
        let peers = |member: &Member| {
            let name = name(member);
            let peer = |url: &String| Peer { name: name.clone(), url: url.clone() };
            member.peer_urls.iter().map(peer).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(peers).collect()
    }
}

/// `n1=http://10.0.0.2:2380,n2=…`, as etcd's `initial-cluster` has it.
pub fn initial_cluster(peers: &[Peer]) -> String {
    let peers: Vec<String> =
        peers.iter().map(|peer| format!("{}={}", peer.name, peer.url)).collect();
    peers.join(",")
}
