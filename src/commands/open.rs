//! `virtlab open`: the page of a lab, which its boot server serves on loopback.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::boot_server::page::address::PageAddress;
use crate::boot_server::process;
use crate::cli::looking::OpenArgs;
use crate::error::hinted;
use crate::host;
use crate::http::nearby_client;
use crate::lab::Lab;
use crate::output::{Format, Table};
use crate::session::Session;
use crate::state::StateDir;
use crate::status::no_lab;

/// Prints the URL, and opens a browser where there is a screen.
pub(super) fn run(session: &Session, args: &OpenArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let Some(name) = &args.lab else {
        let mut labs: Vec<&Lab> = inventory.labs.values().map(|found| &found.lab).collect();
        labs.sort_by(|a, b| a.name.cmp(&b.name));
        return all(session, &labs, args.print);
    };
    let Some(found) = inventory.lab(name) else { return Err(no_lab(&inventory, name)) };
    let address = page(&found.lab)?;
    session.printer.data(address.url());
    show(session, &address, "", args.print)
}

/// Prints the URLs of all labs. Each page has a list of them, and so any of them is opened.
fn all(session: &Session, labs: &[&Lab], print: bool) -> Result<()> {
    let printer = session.printer;
    if labs.is_empty() && printer.format() == Format::Table {
        printer.note("there are no labs; `virtlab create` makes one");
        return Ok(());
    }
    let mut first = None;
    let mut rows = Vec::new();
    for lab in labs {
        let page = page(lab);
        if let Err(error) = &page {
            printer.warn(format!("{error:#}; `virtlab open {}` says what to do", lab.name));
        }
        let page = page.ok();
        rows.push(Row { name: lab.name.to_string(), url: page.as_ref().map(PageAddress::url) });
        first = first.or(page);
    }
    let mut table = Table::new(&["lab", "page"]);
    for row in &rows {
        table.row([row.name.clone(), row.url.clone().unwrap_or_else(|| "-".to_owned())]);
    }
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    printer.listing(&rows, &names, &table)?;
    first.map_or(Ok(()), |first| show(session, &first, ALL_LABS, print))
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Row {
    name: String,
    url: Option<String>,
}

/// Where the page of a lab is, after making sure that it is there.
fn page(lab: &Lab) -> Result<PageAddress> {
    let name = &lab.name;
    let state = StateDir::of(lab)?;
    let Some(pid) = process::pid(state.path()) else {
        return Err(hinted(
            format!("the boot server of lab `{name}`, which serves its page, does not run here"),
            format!("`virtlab create {name}` brings it back"),
        ));
    };
    match PageAddress::read(state.path()) {
        Ok(address) if answers(&address)? => Ok(address),
        _ => Err(hinted(
            format!(
                "the boot server of lab `{name}` (process {pid}) serves no page; an older virtlab started it?"
            ),
            format!("`kill {pid}; virtlab create {name}` starts another one"),
        )),
    }
}

/// Whether the lab's page is there, and nothing else of that port.
fn answers(address: &PageAddress) -> Result<bool> {
    let http = nearby_client(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("making an HTTP client")?;
    Ok(http.head(address.own_url()).send().is_ok_and(|it| it.status() == 303))
}

fn show(session: &Session, address: &PageAddress, part: &str, print: bool) -> Result<()> {
    if print {
        return Ok(());
    }
    if !DISPLAYS.iter().any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty())) {
        session.printer.note(format!(
            "there is no display here; on your own computer type `{}`, and open the URL in a browser there",
            tunnel(address.port)
        ));
        return Ok(());
    }
    // What it has to say nobody wants to read, and what it starts outlives us.
    let mut browser = Command::new("xdg-open");
    browser.arg(format!("{}{part}", address.own_url()));
    browser.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match browser.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(no_browser(&status.to_string())),
        Err(error) => Err(no_browser(&error.to_string())),
    }
}

fn no_browser(why: &str) -> anyhow::Error {
    hinted(
        format!("opening a browser by `xdg-open`: {why}"),
        "open the URL in a browser by hand; `--print` only prints it",
    )
}

/// The line that brings the page to another computer, for who is logged in from there.
fn tunnel(port: u16) -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    // Four words: the client and its port, the server and its port.
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let mut words = connection.split_whitespace().skip(2);
    let server = words.next().map_or_else(host::hostname, ToOwned::to_owned);
    let ssh_port = words.next().filter(|port| *port != "22");
    let ssh_port = ssh_port.map(|port| format!("-p {port} ")).unwrap_or_default();
    format!("ssh {ssh_port}-L {port}:127.0.0.1:{port} {user}{server}")
}

const DISPLAYS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];
/// The part of a page that lists all labs.
const ALL_LABS: &str = "#labs";
const PATIENCE: Duration = Duration::from_secs(3);
