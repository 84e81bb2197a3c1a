//! Images against real servers: nginx with TLS, servers that misbehave, and real gpg signatures.
//!
//! All of it on loopback. Programs that are needed: nginx, openssl, gpg, unshare, mount.

mod cache;
mod digests;
mod disk;
mod download;
mod faulty;
mod flatcar;
mod nginx;
mod recipes;
mod retries;
mod signer;
mod signing;
mod streams;
mod support;
