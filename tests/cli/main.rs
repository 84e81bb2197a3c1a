//! The real program as its users meet it: whole outputs, exit codes, and which of the two streams.
//!
//! libvirt is its own test driver, seeded from a file and private to each run, so nothing here
//! needs a daemon, an image or root.

mod autostart;
mod completion;
mod diff;
mod doctor;
mod faults;
mod help;
mod images;
mod listings;
mod locks;
mod login;
mod looking;
mod looks;
mod oldest_libvirt;
mod options;
mod past;
mod plans;
mod power;
mod refusals;
mod saved;
mod served;
#[path = "../shared/snapshots.rs"]
mod snapshots;
mod streams;
mod support;
mod timeline;
