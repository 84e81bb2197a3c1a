//! Real guests on a real libvirtd, in a sandbox: `make e2e`.
//!
//! The tests of a file run one after the other, files in different sandboxes at the same time. Each test cleans up behind
//! itself even if it fails, by a guard that destroys its lab; the serial console and libvirt itself are the oracles.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what is measured is printed")]

mod harness;
mod terminal;
mod wire;

mod behind;
mod boot_matrix;
#[cfg(feature = "e2e-full")]
mod browser;
mod daemon;
#[cfg(feature = "e2e-full")]
mod debian;
mod debian_installer;
mod discovery;
mod events;
mod external_pxe;
mod fault;
mod fault_clock;
mod fault_for;
mod fault_power;
mod fault_resources;
mod fault_wire;
mod foreign;
mod killing;
mod knocking;
mod ksm;
mod lab;
mod logging_in;
mod looking;
mod micro_ignition;
mod no_ipv6;
mod page;
mod parallel;
mod past;
mod power;
mod proxy_dhcp;
mod pxe_servers;
mod resume;
mod scale;
mod screen;
mod servers_killed;
mod session;
mod snapshot;
mod two_libvirts;
mod verdict;
