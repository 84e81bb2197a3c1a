//! Clusters of real etcd processes on loopback: how they find each other, and whether they are healthy.
//!
//! Programs that are needed: etcd, discovery.etcd.io.

mod discovery;
mod etcd;
mod health;
mod membership;
mod verdict;
