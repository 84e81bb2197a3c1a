//! What the nodes of a lab ask for over HTTP while they boot.

pub mod discovery;
