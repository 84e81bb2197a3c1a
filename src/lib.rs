//! virtlab provisions local clusters of network-booted virtual machines through libvirt.
//!
//! The layers, and which way the data goes, are drawn in `docs/architecture.md`:
//! [`commands`] is the only place where they meet, [`lab`] and [`render`] do no I/O, only
//! [`hypervisor`] talks to libvirt, only [`boot_server`] has an async runtime inside it.

pub mod boot_server;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod completion;
pub mod config;
mod deadline;
mod doctor;
pub mod error;
mod files;
pub mod hint;
pub mod host;
pub mod http;
pub mod hypervisor;
pub mod images;
pub mod ksm;
pub mod lab;
pub mod loaders;
pub mod memory;
pub mod output;
pub mod packages;
mod page;
mod provision;
pub mod render;
mod session;
pub mod signals;
pub mod state;
mod status;
mod svg;
pub mod template;
pub mod units;
pub mod verdict;
mod waterfall;
