//! Snapshots of a whole lab: the memory of all of its nodes at the same moment, in the lab's storage pool.

pub(crate) mod restore;
pub(crate) mod save;
pub(crate) mod shelf;
pub(crate) mod shot;
