//! When a node counts as ready, as flags, lab files and images' entries say it.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When a node counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Readiness {
    /// It has fetched its config.
    Config,
    /// It answers ssh.
    Ssh,
    /// Its etcd is healthy.
    Etcd,
    /// It accepts connections at a TCP port.
    Tcp(NonZeroU16),
    /// It answers a GET with success (2xx).
    Http {
        /// At this port of its address.
        port: NonZeroU16,
        /// For this path, which begins with `/`.
        path: String,
    },
    /// A command succeeds on it, over ssh.
    Command(String),
}

impl Readiness {
    /// What is so when a node is ready, for people.
    pub(crate) fn when(&self) -> String {
        match self {
            Self::Config => "its config is fetched".to_owned(),
            Self::Ssh => "ssh answers".to_owned(),
            Self::Etcd => "etcd is healthy".to_owned(),
            Self::Tcp(port) => format!("port {port} accepts connections"),
            Self::Http { .. } => format!("{self} answers with success"),
            Self::Command(command) => format!("`{command}` succeeds on it"),
        }
    }

    /// What is not so yet when a node is not ready, for people.
    pub(crate) fn not_yet(&self) -> String {
        match self {
            Self::Config => "its config is not fetched yet".to_owned(),
            Self::Ssh => "ssh does not answer yet".to_owned(),
            Self::Etcd => "etcd is not healthy yet".to_owned(),
            Self::Tcp(port) => format!("port {port} does not accept connections yet"),
            Self::Http { .. } => format!("{self} does not answer with success yet"),
            Self::Command(command) => format!("`{command}` does not succeed yet"),
        }
    }
}

impl FromStr for Readiness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |port: &str| {
            port.parse().map_err(|_| format!("`{text}` has no port that can be, from 1 to 65535"))
        };
        match text {
            "config" => return Ok(Self::Config),
            "ssh" => return Ok(Self::Ssh),
            "etcd" => return Ok(Self::Etcd),
            _ => {}
        }
        if let Some(number) = text.strip_prefix(TCP) {
            return Ok(Self::Tcp(port(number)?));
        }
        if let Some(rest) = text.strip_prefix(HTTP) {
            let (number, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !path.chars().all(|character| character.is_ascii_graphic()) {
                return Err(format!("the path of `{text}` has to be percent-encoded"));
            }
            let path = if path.is_empty() { "/" } else { path };
            return Ok(Self::Http { port: port(number)?, path: path.to_owned() });
        }
        if let Some(command) = text.strip_prefix(COMMAND) {
            return match command.trim() {
                "" => Err(format!("`{COMMAND}` needs a command behind it")),
                command if command.chars().any(char::is_control) => {
                    Err("the command has to be one line, without control characters".to_owned())
                }
                command => Ok(Self::Command(command.to_owned())),
            };
        }
        Err(format!(
            "`{}` is none of `config`, `ssh`, `etcd`, `tcp:PORT`, `http://:PORT/PATH` and `command:COMMAND`",
            text.escape_debug()
        ))
    }
}

impl TryFrom<String> for Readiness {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Readiness> for String {
    fn from(readiness: Readiness) -> Self {
        readiness.to_string()
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Ssh => f.write_str("ssh"),
            Self::Etcd => f.write_str("etcd"),
            Self::Tcp(port) => write!(f, "{TCP}{port}"),
            Self::Http { port, path } => write!(f, "{HTTP}{port}{path}"),
            Self::Command(command) => write!(f, "{COMMAND}{command}"),
        }
    }
}

const TCP: &str = "tcp:";
/// The host is each node's own address.
const HTTP: &str = "http://:";
const COMMAND: &str = "command:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "config",
            "ssh",
            "etcd",
            "tcp:6443",
            "http://:8080/healthz?full=1",
            "command:systemctl is-system-running | grep -q running",
        ] {
            let readiness: Readiness = text.parse().unwrap();
            assert_eq!(readiness.to_string(), text);
            let json = serde_json::to_string(&readiness).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Readiness>(&json).unwrap(), readiness);
        }
        assert_eq!("http://:80".parse::<Readiness>().unwrap().to_string(), "http://:80/");
    }

    #[test]
    fn what_cannot_be_is_told_in_one_sentence() {
        let none = "is none of `config`, `ssh`, `etcd`, `tcp:PORT`, `http://:PORT/PATH` and `command:COMMAND`";
        for (text, expected) in [
            ("soon", format!("`soon` {none}")),
            ("http://host:80/", format!("`http://host:80/` {none}")),
            ("tcp:0", "`tcp:0` has no port that can be, from 1 to 65535".to_owned()),
            ("tcp:ssh", "`tcp:ssh` has no port that can be, from 1 to 65535".to_owned()),
            ("http://:/x", "`http://:/x` has no port that can be, from 1 to 65535".to_owned()),
            ("http://:80/a b", "the path of `http://:80/a b` has to be percent-encoded".to_owned()),
            ("command: ", "`command:` needs a command behind it".to_owned()),
            (
                "command:a\nb",
                "the command has to be one line, without control characters".to_owned(),
            ),
        ] {
            assert_eq!(text.parse::<Readiness>(), Err(expected));
        }
    }
}
