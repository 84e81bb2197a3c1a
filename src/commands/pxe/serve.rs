//! `virtlab pxe serve --proxy-dhcp`: the distribution's dnsmasq in the foreground, which gives a
//! lab's nodes their boot files beside a DHCP server that cannot be changed.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use rustix::process::{Pid, Signal};

use crate::cli::pxe::ServeArgs;
use crate::error::hinted;
use crate::host;
use crate::images::Library;
use crate::images::lock::Pin;
use crate::provision::pxe_tree::Export;
use crate::provision::wire;
use crate::render::pxe::{self, Site};
use crate::session::Session;
use crate::status::no_lab;

pub(super) fn run(session: &Session, args: &ServeArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&inventory, &args.lab)) };
    let lab = &found.lab;
    if lab.spec.network.managed().is_some() {
        bail!("lab `{}` has a network of its own, which serves its nodes already", lab.name);
    }
    let wire = wire::find(&lab.spec.network, &inventory, hypervisor.is_session()?)?;
    let Some(bridge) = args.bridge.clone().or(wire.bridge) else {
        bail!(
            "{} is no bridge of this host; name the one to answer on by --bridge",
            lab.spec.network
        );
    };
    host::bridge::require(&bridge, false)?;
    let Some(address) = host::interface_subnet(&bridge)? else {
        return Err(hinted(
            format!("bridge `{bridge}` has no IPv4 address to answer from"),
            format!("`sudo ip address add ADDRESS/PREFIX dev {bridge}` gives it one"),
        ));
    };

    let spec = session.catalogue()?.find(&lab.spec.image.name)?;
    let image = Library::open_default()?.ensure(&spec, &Pin::default(), session.printer)?;
    // Until here Ctrl-C just ended the program.
    session.catch_signals()?;
    // dnsmasq reads it as another user, who may not enter our state folder; there is nothing
    // secret in it, since configs come from the boot server.
    let tree = tempfile::Builder::new()
        .prefix("virtlab-pxe-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("making the TFTP folder")?;
    let tftp = tree.path().join("tftp");
    let site = Site {
        tftp_server: address.addr().into(),
        tftp_root: tftp.display().to_string(),
        http: None,
        dhcp: None,
    };
    let export = Export { templates: session.templates()?, lab, spec: &spec, site: &site };
    export.write_tftp(&tftp, &image)?;
    let config = tree.path().join("dnsmasq.conf");
    let text = pxe::proxy_dhcp(&export.templates, lab, &bridge, address, &site.tftp_root)?;
    fs::write(&config, text)?;

    let mut command = Command::new("dnsmasq");
    // Logs go to stderr, and no file says that it runs: it is ours alone.
    command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file="]);
    command.arg(format!("--conf-file={}", config.display()));
    let dnsmasq = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => hinted(
            "`dnsmasq` is not installed",
            "`sudo apt install dnsmasq-base` does that on Debian and Ubuntu",
        ),
        _ => anyhow::Error::new(error).context("starting dnsmasq"),
    })?;
    session.printer.note(format!(
        "answering the nodes of lab `{}` on bridge `{bridge}` from {}; Ctrl-C ends it",
        lab.name,
        address.addr()
    ));
    wait(session, dnsmasq)
}

/// Until somebody presses Ctrl-C, or dnsmasq ends by itself, which is an error.
fn wait(session: &Session, mut dnsmasq: Child) -> Result<()> {
    loop {
        if let Some(status) = dnsmasq.try_wait().context("waiting for dnsmasq")? {
            if session.is_interrupted() {
                return Ok(());
            }
            return Err(hinted(
                format!("dnsmasq ended with {status}"),
                "its own message is above; it needs root, and ports 67, 69 and 4011 for itself on the bridge",
            ));
        }
        if session.is_interrupted() {
            let pid = Pid::from_child(&dnsmasq);
            rustix::process::kill_process(pid, Signal::TERM).context("ending dnsmasq")?;
            dnsmasq.wait().context("waiting for dnsmasq")?;
            session.printer.note("no longer answering");
            return Ok(());
        }
        thread::sleep(POLL);
    }
}

const POLL: Duration = Duration::from_millis(100);
