//! A user with a home, an image of two tiny files, and a libvirt of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use insta::Settings;
use tempfile::TempDir;

use crate::snapshots::filter_xml;

/// What a user has before they type anything.
pub(crate) struct User {
    folder: TempDir,
}

impl User {
    /// A user whose libvirt has nothing.
    pub(crate) fn new() -> Self {
        let user = Self { folder: TempDir::new().unwrap() };
        user.write("tiny.toml", IMAGE);
        user.write("vmlinuz", "kernel");
        user.write("initrd.img", "initrd");
        user.seed("");
        user
    }

    /// A user whose libvirt has `objects`.
    pub(crate) fn with(objects: &str) -> Self {
        let user = Self::new();
        user.seed(objects);
        user
    }

    /// A user who has a lab of two nodes, the first one running, beside what is somebody else's.
    pub(crate) fn with_a_lab() -> Self {
        let user = Self::new();
        user.seed(&format!("{}{FOREIGN}", user.lab("demo", &[RUNNING, SHUT_OFF])));
        user
    }

    /// What libvirt has of a lab of this name, with a node for each state, as virtlab made it.
    pub(crate) fn lab(&self, name: &str, states: &[&str]) -> String {
        self.lab_with(name, states, &[])
    }

    /// The same, made with more flags.
    pub(crate) fn lab_with(&self, name: &str, states: &[&str], flags: &[&str]) -> String {
        let nodes = states.len().to_string();
        let render = |part: &str, node: &str| {
            let mut command = self.virtlab(&["render", name, "--image", "tiny.toml"]);
            command.args(["--subnet", "10.201.0.0/24", "--nodes", &nodes]);
            command.args(flags);
            let output = command.args(["--part", part, "--node", node]).output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        };
        let domain = |(index, state): (usize, &&str)| {
            let xml = render("domain", &(index + 1).to_string());
            xml.replace("</domain>", &format!("{state}</domain>"))
        };
        let domains: String = states.iter().enumerate().map(domain).collect();
        format!("{}{domains}", render("network", "1"))
    }

    /// The same lab with another power wanted of one of its nodes, as its mark says it.
    pub(crate) fn wanting(lab: &str, node: u32, power: &str) -> String {
        lab.replace(&format!("node=\"{node}\" "), &format!("node=\"{node}\" power=\"{power}\" "))
    }

    /// The same lab with one of its nodes cut off since long ago, as its mark says it.
    pub(crate) fn cut(lab: &str, node: u32) -> String {
        lab.replace(&format!("node=\"{node}\" "), &format!("node=\"{node}\" faults=\"cut=1000\" "))
    }

    /// Gives libvirt these objects and no others.
    pub(crate) fn seed(&self, objects: &str) {
        self.write("node.xml", &format!("<node>{objects}</node>"));
    }

    /// Gives libvirt a lab that was made with the image as it is here, in the cache.
    pub(crate) fn seed_with_image(&self, lab: &str) {
        let shown = self.virtlab(&["image", "show", "tiny.toml", "-o", "json"]).output().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        let with_digest = format!("/tiny.toml\",\"digest\":{}}}", shown["digest"]);
        self.seed(&lab.replace("/tiny.toml\"}", &with_digest));
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// virtlab with these arguments, in the user's folder and with nothing else of ours.
    pub(crate) fn virtlab(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtlab"));
        command.args(args).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path());
        command.env("LIBVIRT_DEFAULT_URI", self.uri());
        command
    }

    /// Another program, in the user's folder, with virtlab's libvirt.
    pub(crate) fn program(&self, name: &str, package: &str) -> Command {
        let found = Command::new("which").arg(name).output().is_ok_and(|it| it.status.success());
        assert!(found, "`{name}` is needed (package {package}): scripts/setup.sh test");
        let mut command = Command::new(name);
        command.current_dir(self.path()).env("HOME", self.path());
        command.env("LIBVIRT_DEFAULT_URI", self.uri());
        command
    }

    pub(crate) fn uri(&self) -> String {
        format!("test://{}/node.xml", self.path().display())
    }

    /// Runs virtlab and gives all that it said, as the snapshots have it.
    pub(crate) fn says(&self, args: &[&str]) -> String {
        transcript(&mut self.virtlab(args))
    }

    /// Runs virtlab several times.
    pub(crate) fn session(&self, runs: &[&[&str]]) -> String {
        let transcripts: Vec<String> = runs.iter().map(|args| self.says(args)).collect();
        transcripts.join("\n")
    }
}

/// The command line, how it ended, and what it said where.
pub(crate) fn transcript(command: &mut Command) -> String {
    let args: Vec<String> = command.get_args().map(|arg| quoted(&arg.to_string_lossy())).collect();
    let Output { status, stdout, stderr } = command.output().unwrap();
    format!(
        "$ virtlab {}\nexit {}\n{}{}",
        args.join(" "),
        status.code().map_or_else(|| "by a signal".to_owned(), |code| code.to_string()),
        section("stdout", &text(&stdout)),
        section("stderr", &text(&stderr)),
    )
}

/// Compares with `tests/cli/snapshots/`, without what differs from run to run.
macro_rules! assert_transcript {
    ($name:expr, $text:expr) => {
        $crate::support::filters().bind(|| insta::assert_snapshot!($name, $text));
    };
}
pub(crate) use assert_transcript;

/// The one table of what differs from run to run and from computer to computer.
pub(crate) fn filters() -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    filter_xml(&mut settings);
    for (pattern, replacement) in [
        (r"(/private)?/tmp/\.tmp\w+", "[DIR]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[UUID]"),
        (r"\b(virtlab|libvirt) \d+\.\d+\.\d+", "$1 [VERSION]"),
        (r#"\b(virtlab": |libvirt": )"\d+\.\d+\.\d+""#, "$1\"[VERSION]\""),
        (r"\d+\.\d s", "[TIME]"),
        (r"recipe [0-9a-f]{12}", "recipe [DIGEST]"),
        (r"at line 1 column \d+", "at line 1 column [N]"),
        // libvirt 9 says this in other words, and libxml2 adds its own.
        (r"(?m)^I/O warning : failed to load external entity .*\n", ""),
        (
            r"XML error: failed to parse xml document '(\S+)'",
            "Failed to open file '$1': No such file or directory",
        ),
        // KSM is the host's, and other programs may use it.
        (r"(?m)^memory: .*", "memory: [MEMORY]"),
        (r"(?m)^KSM: .*\n", ""),
        (r#""ksm": (\{[^}]*\}|null)"#, "\"ksm\": [KSM]"),
        (r"(?m)^  ksm:( null)?\n(    .*\n)*", "  ksm: [KSM]\n"),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn section(name: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("--- {name}\n{text}") }
}

fn quoted(arg: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@?+".contains(c);
    if !arg.is_empty() && arg.chars().all(is_plain) { arg.to_owned() } else { format!("{arg:?}") }
}

/// Somebody else's: the names that libvirt installs come with, and a virtual machine.
pub(crate) const FOREIGN: &str = "\
    <network><name>default</name><bridge name='virbr0'/>\
    <ip address='192.168.122.1' netmask='255.255.255.0'/></network>\
    <domain type='test'><name>windows</name><memory>65536</memory><os><type>hvm</type></os></domain>\
    <pool type='dir'><name>default</name><target><path>/var/lib/libvirt/images</path></target></pool>";

/// States in libvirt's numbers. <https://libvirt.org/drvtest.html>
pub(crate) const RUNNING: &str =
    "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>1</test:runstate>";
pub(crate) const PAUSED: &str =
    "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>3</test:runstate>";
pub(crate) const SHUT_OFF: &str =
    "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>5</test:runstate>";

/// docs/images.md
const IMAGE: &str = r#"version = 1
name = "tiny"
description = "Two small files"
arguments = "console=ttyS0 ignition.config.url={{ config_url }}"
memory_mib = 256
config = "ignition"
config_template = "etcd-micro.ign.j2"
ready = "config"
source.local.folder = "."

[[file]]
role = "kernel"
name = "vmlinuz"

[[file]]
role = "initrd"
name = "initrd.img"
"#;
