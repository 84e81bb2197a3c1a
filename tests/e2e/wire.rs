//! A wire that is not virtlab's: a bridge of the host, and machines on it in network namespaces of
//! their own. All of it goes when the values go.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{Said, holds_within, missing, run, wait_until};

/// A bridge of the host with an address.
pub(crate) struct Bridge {
    name: String,
}

impl Bridge {
    pub(crate) fn new(name: &str, address: &str) -> Self {
        let bridge = Self { name: name.to_owned() };
        // With an address of its own it does not take that of its first port.
        run("ip", &["link", "add", name, "address", "52:54:00:aa:00:01", "type", "bridge"]).ok();
        run("ip", &["address", "add", address, "dev", name]).ok();
        run("ip", &["link", "set", name, "up"]).ok();
        bridge
    }

    /// All that `ip -d link` says of it but clocks and counters.
    pub(crate) fn details(&self) -> String {
        let text = run("ip", &["-d", "link", "show", &self.name]).ok();
        let words: Vec<&str> = text.split_whitespace().collect();
        let moves = |word: &str| word.ends_with("_timer") || word.starts_with("fdb_n_learned");
        let kept = words.iter().enumerate().filter(|(index, word)| {
            !moves(word) && !index.checked_sub(1).is_some_and(|before| moves(words[before]))
        });
        kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = run("ip", &["link", "del", &self.name]);
    }
}

/// A machine on a bridge: a network namespace with an interface `eth0`.
pub(crate) struct Machine {
    name: String,
}

impl Machine {
    /// `mac` for a machine whose address matters.
    pub(crate) fn new(name: &str, bridge: &str, address: Option<&str>, mac: Option<&str>) -> Self {
        let machine = Self { name: name.to_owned() };
        let port = format!("v-{name}");
        run("ip", &["netns", "add", name]).ok();
        let mut add = vec!["link", "add", &port, "type", "veth", "peer", "name", "eth0"];
        add.extend(mac.iter().flat_map(|mac| ["address", *mac]));
        add.extend(["netns", name]);
        run("ip", &add).ok();
        run("ip", &["link", "set", &port, "master", bridge, "up"]).ok();
        run("ip", &["-n", name, "link", "set", "lo", "up"]).ok();
        run("ip", &["-n", name, "link", "set", "eth0", "up"]).ok();
        if let Some(address) = address {
            run("ip", &["-n", name, "address", "add", address, "dev", "eth0"]).ok();
        }
        machine
    }

    /// Runs a program on it.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        run("ip", &[&["netns", "exec", &self.name], args].concat())
    }

    /// Starts a server on it, with all that it says in the file `log`.
    pub(crate) fn start(&self, args: &[&str], log: &Path) -> Server {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(args);
        Server::start(command, log)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = run("ip", &["link", "del", &format!("v-{}", self.name)]);
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

/// A process that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts it, with all that it says in the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let other = log.try_clone().expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(other).spawn();
        let program = command.get_program().to_string_lossy();
        Self { child: child.unwrap_or_else(|error| missing(&program, &error)) }
    }

    /// Ends it as Ctrl-C does, and gives its exit status.
    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        run("kill", &["-INT", &self.child.id().to_string()]).ok();
        wait_until("ending on Ctrl-C", Duration::from_secs(10), || !self.is_running());
        self.child.wait().expect("our child").code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = run("kill", &["-TERM", &self.child.id().to_string()]);
        if !holds_within(Duration::from_secs(3), || matches!(self.child.try_wait(), Ok(Some(_)))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
