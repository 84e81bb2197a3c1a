//! Is it up? What only the nodes themselves can say.

pub mod discovery;
pub mod etcd;
pub mod ssh;
