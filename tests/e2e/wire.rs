//! A wire that is not virtlab's: a bridge of the host, and machines on it in network namespaces of
//! their own. All of it goes when the values go.

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Runs a command that must succeed, and gives its standard output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = output(program, args);
    assert!(
        output.status.success(),
        "{program} {} ended with {}: {}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that may fail. `virtlab` is the one under test.
pub(crate) fn output(program: &str, args: &[&str]) -> Output {
    command(program).args(args).output().unwrap_or_else(|error| missing(program, &error))
}

/// Runs virtlab, which must refuse: its standard error.
pub(crate) fn refused(args: &[&str]) -> String {
    let output = output("virtlab", args);
    assert!(!output.status.success(), "virtlab {} succeeded", args.join(" "));
    String::from_utf8(output.stderr).expect("text")
}

pub(crate) fn command(program: &str) -> Command {
    assert!(
        std::env::var_os("VIRTLAB_SANDBOX").is_some(),
        "this test makes bridges and guests: run it by scripts/sandbox.sh"
    );
    Command::new(if program == "virtlab" { env!("CARGO_BIN_EXE_virtlab") } else { program })
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    let package = match program {
        "ip" => "iproute2",
        "dnsmasq" => "dnsmasq-base",
        "nginx" => "nginx-light",
        "virsh" => "libvirt-clients",
        other => other,
    };
    panic!("running `{program}` (package {package}): {error}")
}

/// Does `virtlab destroy` at the end.
pub(crate) struct Lab(pub(crate) String);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = output("virtlab", &["--quiet", "destroy", &self.0]);
    }
}

/// A bridge of the host with an address.
pub(crate) struct Bridge {
    name: String,
}

impl Bridge {
    pub(crate) fn new(name: &str, address: &str) -> Self {
        let bridge = Self { name: name.to_owned() };
        // With an address of its own it does not take that of its first port.
        run("ip", &["link", "add", name, "address", "52:54:00:aa:00:01", "type", "bridge"]);
        run("ip", &["address", "add", address, "dev", name]);
        run("ip", &["link", "set", name, "up"]);
        bridge
    }

    /// All that `ip -d link` says of it but clocks and counters.
    pub(crate) fn details(&self) -> String {
        let text = run("ip", &["-d", "link", "show", &self.name]);
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
        let _ = output("ip", &["link", "del", &self.name]);
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
        run("ip", &["netns", "add", name]);
        let mut add = vec!["link", "add", &port, "type", "veth", "peer", "name", "eth0"];
        add.extend(mac.iter().flat_map(|mac| ["address", *mac]));
        add.extend(["netns", name]);
        run("ip", &add);
        run("ip", &["link", "set", &port, "master", bridge, "up"]);
        run("ip", &["-n", name, "link", "set", "lo", "up"]);
        run("ip", &["-n", name, "link", "set", "eth0", "up"]);
        if let Some(address) = address {
            run("ip", &["-n", name, "address", "add", address, "dev", "eth0"]);
        }
        machine
    }

    /// Starts a server on it, with all that it says in the file `log`.
    pub(crate) fn start(&self, args: &[&str], log: &Path) -> Server {
        Server::start("ip", &[&["netns", "exec", &self.name], args].concat(), log)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = output("ip", &["link", "del", &format!("v-{}", self.name)]);
        let _ = output("ip", &["netns", "del", &self.name]);
    }
}

/// A process that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn start(program: &str, args: &[&str], log: &Path) -> Self {
        let file = || {
            Stdio::from(
                std::fs::File::options().create(true).append(true).open(log).expect("a log"),
            )
        };
        let child =
            command(program).args(args).stdin(Stdio::null()).stdout(file()).stderr(file()).spawn();
        Self { child: child.unwrap_or_else(|error| missing(program, &error)) }
    }

    /// Ends it as Ctrl-C does, and gives its exit status.
    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        run("kill", &["-INT", &self.child.id().to_string()]);
        let ended = wait_until(Duration::from_secs(10), || {
            self.child.try_wait().expect("our child").is_some()
        });
        assert!(ended, "it does not end on Ctrl-C");
        self.child.wait().expect("our child").code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = output("kill", &["-TERM", &self.child.id().to_string()]);
        if !wait_until(Duration::from_secs(3), || matches!(self.child.try_wait(), Ok(Some(_)))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether `done` comes true within `timeout`.
pub(crate) fn wait_until(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(200));
    }
}
