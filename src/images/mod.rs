//! Images: what can be booted, where its files come from, and how they are known to be right.
//!
//! A node boots whatever it is handed, so nothing is handed to it that was not verified: a file
//! enters the [`store`] only under the digest that its image's entry, its metadata, a signature or
//! the lock file vouches for. The way of a file is [`catalogue`] (which image) → [`resolve`]
//! (which version, which URLs) → [`fetch`] → [`verify`] → [`store`].

pub mod arguments;
pub mod catalogue;
pub mod digest;
pub mod fetch;
pub mod image;
mod in_use;
pub mod index;
mod kept;
mod library;
pub mod lock;
mod pin_choice;
mod pull;
pub mod recipe;
pub mod resolve;
pub mod spec;
pub mod store;
pub mod verify;

pub use arguments::{BootVariables, LabVariables, NodeVariables};
pub use catalogue::Catalogue;
pub use digest::Sha256;
pub use fetch::Fetcher;
pub use image::{Image, ImageFile};
pub use in_use::InUse;
pub use library::Library;
pub use lock::{LockFile, Pin};
pub use pin_choice::PinChoice;
pub(crate) use spec::located;
pub use spec::{ConfigFormat, FileSpec, ImageSpec, Readiness, Role, Source};
