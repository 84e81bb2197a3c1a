//! Is the cluster up? What the nodes' own software says, asked from outside.

pub mod discovery;
