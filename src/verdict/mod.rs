//! What a fault did to a cluster: clients write and read all the time, and their history tells for how long that failed,
//! who led, and whether anything was lost.
//!
//! [`workload`] asks etcd and keeps the [`history`]; [`judge`] makes the verdict of it and does no I/O, so a verdict can be had
//! again from what was recorded. [`picture`] draws it.

pub mod history;
pub mod judge;
pub mod picture;
pub mod workload;
