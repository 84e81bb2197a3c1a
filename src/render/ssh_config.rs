//! A snippet of ssh's client configuration: a host for each node. <https://man.openbsd.org/ssh_config>

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

/// How a node is logged in to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: Option<IpAddr>,
    pub(crate) user: Option<&'a str>,
}

/// The snippet. `options` are for every host.
pub(crate) fn ssh_config(
    hosts: &[Host],
    identity: Option<&Path>,
    options: &[(&str, &str)],
) -> String {
    let mut text = String::new();
    for host in hosts {
        if !text.is_empty() {
            text.push('\n');
        }
        let Some(address) = host.address else {
            let _ = writeln!(text, "# {}: nobody knows its address", host.name);
            continue;
        };
        let _ = writeln!(text, "Host {}\n  HostName {address}", host.name);
        if let Some(user) = host.user {
            let _ = writeln!(text, "  User {user}");
        }
        if let Some(identity) = identity {
            // A percent sign begins a token, quotes are for blanks.
            let file = identity.display().to_string().replace('%', "%%");
            let _ = writeln!(text, "  IdentityFile \"{file}\"\n  IdentitiesOnly yes");
        }
        for (name, value) in options {
            let _ = writeln!(text, "  {name} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_a_host() {
        let address = |text: &str| Some(text.parse().unwrap());
        let hosts = [
            Host { name: "demo-1", address: address("192.0.2.2"), user: Some("core") },
            Host { name: "demo-2", address: None, user: Some("core") },
            Host { name: "demo-3", address: address("2001:db8::3"), user: None },
        ];
        assert_eq!(
            ssh_config(&hosts, Some(Path::new("/my keys/100%")), &[("LogLevel", "ERROR")]),
            "Host demo-1\n  HostName 192.0.2.2\n  User core\n  IdentityFile \"/my keys/100%%\"\n  \
               IdentitiesOnly yes\n  LogLevel ERROR\n\
             \n# demo-2: nobody knows its address\n\
             \nHost demo-3\n  HostName 2001:db8::3\n  IdentityFile \"/my keys/100%%\"\n  \
               IdentitiesOnly yes\n  LogLevel ERROR\n"
        );
        assert_eq!(ssh_config(&[], None, &[]), "");
    }
}
