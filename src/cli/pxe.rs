//! `virtlab pxe`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Url;

use crate::lab::LabName;
use crate::lab::options::LabOptions;
use crate::render::pxe::DhcpRange;

/// `pxe`.
#[derive(Debug, Subcommand)]
pub enum PxeCommand {
    /// Write all that a DHCP, TFTP and HTTP server needs to boot a lab
    Export(Box<ExportArgs>),

    /// Give a lab's nodes their boot files beside a DHCP server that does not
    Serve(ServeArgs),
}

/// `pxe export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// What the lab should be like; a lab that is there already is as it is.
    #[command(flatten)]
    pub lab: LabOptions,

    /// Lab file; flags win over what it says
    #[arg(short, long, value_name = "FILE", env = "VIRTLAB_FILE")]
    pub file: Option<PathBuf>,

    /// Folder to write, empty or new
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,

    /// URL at which http/ will be served [default: the lab's boot server gives out everything]
    #[arg(long, value_name = "URL")]
    pub http_url: Option<Url>,

    /// Address of the TFTP server [default: this host's on the bridge]
    #[arg(long, value_name = "IP")]
    pub tftp_server: Option<IpAddr>,

    /// Addresses that the DHCP server gives out, FIRST-LAST/PREFIX: its config is a whole one then
    /// [default: a part that goes beside your own subnets]
    #[arg(long, value_name = "RANGE")]
    pub dhcp_range: Option<DhcpRange>,

    /// Router that the DHCP server names to its clients
    #[arg(long, value_name = "IP", requires = "dhcp_range")]
    pub dhcp_router: Option<Ipv4Addr>,

    /// Name server that the DHCP server names to its clients
    #[arg(long, value_name = "IP", requires = "dhcp_range")]
    pub dhcp_dns: Option<Ipv4Addr>,

    /// Path that the folder will have on its server [default: where it is written]
    #[arg(long, value_name = "PATH")]
    pub root: Option<PathBuf>,
}

/// `pxe serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,

    /// Answer beside the network's DHCP server, which gives the addresses
    #[arg(long, required = true)]
    pub proxy_dhcp: bool,

    /// The bridge to answer on [default: the lab's]
    #[arg(long, value_name = "NAME", env = "VIRTLAB_BRIDGE")]
    pub bridge: Option<String>,
}
