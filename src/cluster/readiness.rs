//! Asks nodes whether they are ready, by whatever their lab calls so: for the boot server, which waits for it, and for
//! `status`, which wants to know it now.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::blocking::Client;
use reqwest::redirect::Policy;

use super::etcd::{self, Endpoint};
use super::{login, on_each, ssh};
use crate::deadline::Deadline;
use crate::http::nearby_client;
use crate::images::Readiness;

/// Whether each of these nodes is ready, all asked at the same time; `user` is whom commands are run as. Where having
/// fetched the config is enough, they are.
///
/// # Errors
/// If it cannot be asked at all: without the program `ssh`, for one.
pub(crate) fn are_ready(
    criterion: &Readiness,
    user: Option<&str>,
    nodes: &[Endpoint],
) -> Result<Vec<bool>> {
    let ips: Vec<IpAddr> = nodes.iter().map(|node| node.ip).collect();
    Ok(match criterion {
        Readiness::Config => vec![true; nodes.len()],
        Readiness::Ssh => ssh::answer(&ips),
        Readiness::Etcd => etcd::health(nodes)?.iter().map(|report| report.healthy).collect(),
        Readiness::Tcp(_) | Readiness::Http { .. } => {
            let probe = Probe::new(criterion)?;
            on_each(&ips, |ip| probe.is_answered(*ip))
        }
        Readiness::Command(command) => {
            let user = user.context("nobody is known to log in as")?;
            let run = |ip: &IpAddr| exits_with_0("ssh", user, *ip, command);
            on_each(&ips, run).into_iter().collect::<Result<_>>()?
        }
    })
}

/// What a node is asked whatever it is made of: a TCP port or a URL.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// Whether this port accepts connections.
    Tcp(NonZeroU16),
    /// Whether a GET for this path succeeds at this port.
    Http(Client, NonZeroU16, String),
}

impl Probe {
    /// The one that a criterion is.
    ///
    /// # Errors
    /// If the criterion is none of a port or a URL.
    pub(crate) fn new(criterion: &Readiness) -> Result<Self> {
        match criterion {
            Readiness::Tcp(port) => Ok(Self::Tcp(*port)),
            Readiness::Http { port, path } => {
                // A node is not to send us to others.
                let http = nearby_client(TIMEOUT).redirect(Policy::none()).build();
                let http = http.context("making an HTTP client")?;
                Ok(Self::Http(http, *port, path.clone()))
            }
            other => bail!("`{other}` is no port and no URL"),
        }
    }

    /// Whether the machine at this address answers it, and in time.
    pub(crate) fn is_answered(&self, ip: IpAddr) -> bool {
        match self {
            Self::Tcp(port) => accepts(SocketAddr::new(ip, port.get())),
            Self::Http(http, port, path) => succeeds(http, SocketAddr::new(ip, port.get()), path),
        }
    }
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, TIMEOUT).is_ok()
}

fn succeeds(http: &Client, address: SocketAddr, path: &str) -> bool {
    let answer = http.get(format!("http://{address}{path}")).send();
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// Whether a command on a node ends with 0, and in time.
fn exits_with_0(ssh: &str, user: &str, ip: IpAddr, command: &str) -> Result<bool> {
    let mut program = login::command(ssh, None);
    login::make_unattended(&mut program);
    program.arg(format!("{user}@{ip}")).arg(command);
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = || format!("running `{ssh}` ({})", login::PACKAGE);
    let mut child = program.spawn().with_context(running)?;
    let ended = Deadline::after(COMMAND_TIMEOUT).wait_for(PAUSE, || Ok(child.try_wait()?));
    if !matches!(ended, Ok(Some(_))) {
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(ended.with_context(running)?.is_some_and(|status| status.success()))
}

const TIMEOUT: Duration = Duration::from_secs(2);
/// A command may have more to do than to answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use super::*;

    fn ask(criterion: &str, user: Option<&str>) -> Result<Vec<bool>> {
        let here =
            Endpoint { name: "a-1".to_owned(), ip: [127, 0, 0, 1].into(), port: 1, voter: true };
        let nobody =
            Endpoint { name: "a-2".to_owned(), ip: [127, 0, 0, 9].into(), port: 1, voter: true };
        are_ready(&criterion.parse().unwrap(), user, &[here, nobody])
    }

    #[test]
    fn a_port_is_asked_of_each_nodes_own_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let criterion = format!("tcp:{}", listener.local_addr().unwrap().port());
        assert_eq!(ask(&criterion, None).unwrap(), [true, false]);
        drop(listener);
        assert_eq!(ask(&criterion, None).unwrap(), [false, false]);
    }

    #[test]
    fn only_success_is_an_answer_of_http() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            for _ in 0..4 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                let status = match request.as_str() {
                    "GET /healthz?full=1 HTTP/1.1\r\n" => "204 No Content",
                    "GET /moved HTTP/1.1\r\n" => "302 Found\r\nlocation: /healthz?full=1",
                    "GET /busy HTTP/1.1\r\n" => "503 Service Unavailable",
                    _ => "404 Not Found",
                };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                )
                .unwrap();
            }
        });
        for (path, expected) in
            [("/healthz?full=1", true), ("/moved", false), ("/busy", false), ("", false)]
        {
            let criterion = format!("http://:{port}{path}");
            assert_eq!(ask(&criterion, None).unwrap(), [expected, false], "{path}");
        }
        server.join().unwrap();
    }

    #[test]
    fn a_command_counts_by_its_exit_status() {
        let folder = tempfile::tempdir().unwrap();
        let ssh = folder.path().join("ssh");
        // What comes before the command is the login.
        let script = "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\n[ \"$1\" = core@127.0.0.1 ] || exit 255\nexec sh -c \"$2\"\n";
        fs_err::write(&ssh, script).unwrap();
        fs_err::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
        let ssh = ssh.to_str().unwrap();
        let run = |ip: &str, command: &str| exits_with_0(ssh, "core", ip.parse().unwrap(), command);
        assert!(run("127.0.0.1", "test 1 -lt 2 && true").unwrap());
        assert!(!run("127.0.0.1", "exit 3").unwrap());
        assert!(!run("127.0.0.9", "true").unwrap(), "nobody answers there");
        let error = exits_with_0("/nowhere/ssh", "core", [127, 0, 0, 1].into(), "true");
        assert!(format!("{:#}", error.unwrap_err()).contains("package openssh-client"));
        let error = ask("command:true", None).unwrap_err();
        assert_eq!(error.to_string(), "nobody is known to log in as");
    }
}
