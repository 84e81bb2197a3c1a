//! `virtlab serve`: the boot server of a lab, in the foreground.

use std::net::SocketAddr;

use anyhow::Result;

use crate::boot_server::{self, Discovery, Server, process};
use crate::error::hinted;
use crate::lab::LabName;
use crate::state::StateDir;

pub(super) fn run(name: &LabName) -> Result<()> {
    let state = StateDir::of(name)?;
    if !state.exists() {
        return Err(hinted(
            format!("there is nothing of lab `{name}` on this computer"),
            format!("`virtlab create {name}` makes what the boot server needs"),
        ));
    }
    let content = state.content().map_err(|error| {
        hinted(
            format!("serving lab `{name}`: {error:#}"),
            format!("`virtlab create {name}` makes what the boot server needs"),
        )
    })?;
    let address = SocketAddr::new(content.address, content.port);
    let discovery = Discovery::open(&state.discovery(), &content.discovery_base())?;
    let server = Server::new(content, &state.journal())?;
    process::mark_own_process(state.path())?;
    boot_server::serve(server, discovery, address, state.path().to_owned())
}
