//! `virtlab image`.

use clap::{Args, Subcommand};

use crate::images::PinChoice;

/// What to do with images
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// List the images there are, and which are in the cache
    #[command(visible_alias = "ls")]
    List,
    /// Show one image: its files, what vouched for them, its kernel arguments
    Show(ShowArgs),
    /// Fetch images, or their newest versions, into the cache
    Pull(PullArgs),
    /// Read the files of cached images again and compare their digests
    Verify(VerifyArgs),
    /// Build an image by its recipe
    Build(BuildArgs),
    /// Remove images from the cache
    Rm(RmArgs),
    /// Remove old versions and interrupted downloads from the cache
    Prune(PruneArgs),
}

/// Arguments of `image show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// NAME, NAME:FOLDER or the path of an entry that ends in .toml
    pub image: String,
    /// The version to show
    #[command(flatten)]
    pub pin: PinChoice,
}

/// Arguments of `image pull`.
#[derive(Clone, Debug, Args)]
pub struct PullArgs {
    /// NAME, NAME:FOLDER or the path of an entry that ends in .toml
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// The version to fetch
    #[command(flatten)]
    pub pin: PinChoice,
}

/// Arguments of `image verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// NAME, NAME@VERSION, NAME:FOLDER or PATH.toml; all if none is given
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Arguments of `image build`.
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    /// NAME or the path of an entry that ends in .toml
    pub image: String,
    /// Build it even if this recipe's image is in the cache
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `image rm`.
#[derive(Clone, Debug, Args)]
pub struct RmArgs {
    /// NAME for all its versions, NAME@VERSION, NAME:FOLDER or PATH.toml
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Remove them even if a lab uses them, or if libvirt cannot say so
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `image prune`.
#[derive(Clone, Debug, Args)]
pub struct PruneArgs {
    /// Prune even if libvirt cannot say which images labs use
    #[arg(long)]
    pub force: bool,
}
