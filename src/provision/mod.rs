//! From a wish to a running lab, and back.

pub(crate) mod apply;
pub(crate) mod differences;
pub(crate) mod discovery_url;
pub(crate) mod draft;
pub(crate) mod drift;
pub(crate) mod drill;
pub(crate) mod facts;
pub(crate) mod faults;
mod filters;
pub(crate) mod growing;
pub(crate) mod healing;
pub(crate) mod knocking;
pub(crate) mod lab_lock;
mod leaving;
pub(crate) mod merging;
pub(crate) mod power;
mod preflight;
pub(crate) mod prepare;
pub(crate) mod pxe_tree;
mod rejoining;
pub(crate) mod scaling;
pub(crate) mod shutdown;
pub(crate) mod snapshot;
pub(crate) mod survey;
pub(crate) mod teardown;
pub(crate) mod trial;
pub(crate) mod wire;
