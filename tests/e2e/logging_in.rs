//! Real sshds on small nodes: `micro` with a second initrd that has Debian's dropbear in it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use tempfile::TempDir;

use crate::harness::{LabGuard, Said, missing, read, run, virtlab, virtlab_command, wait_until};

#[test]
fn commands_files_ssh_and_ansible_reach_every_node() {
    let user = User::new();
    let _guard = LabGuard(LAB);
    let agent = Agent::with(&user.path().join("key"));
    // Nodes are ready when a command says so that is run on them with the agent's key, and not as soon as they let in.
    user.create(&agent);
    let said = user.virtlab("exec", &[LAB, "--", "cat", "/tmp/made"]).ok();
    assert_eq!(said.lines().count(), 2, "{said}");

    // exec: every node's lines under its name, the exit statuses, the highest one.
    let said = user.virtlab("exec", &[LAB, "--", "hostname; echo oops >&2"]);
    assert_eq!(sorted(&said.stdout), [format!("{LAB}-1 | {LAB}-1"), format!("{LAB}-2 | {LAB}-2")]);
    assert!(said.stderr.contains(&format!("{LAB}-2 | oops")), "{}", said.stderr);
    let table = format!("NODE      EXIT\n{LAB}-1  0\n{LAB}-2  0\n");
    assert!(said.stderr.ends_with(&table), "{}", said.stderr);
    assert_eq!(said.code, Some(0));
    let said = user.virtlab("exec", &[LAB, "--", "[ $(hostname) = e2e-in-1 ] || exit 7"]);
    assert_eq!(said.code, Some(7), "{}", said.stderr);
    let said = user.virtlab("exec", &["-o", "json", &format!("{LAB}-2"), "--", "hostname"]).json();
    assert_eq!(said["nodes"][0]["stdout"][0], format!("{LAB}-2"), "{said}");

    // cp: to all nodes, from one, from one to another.
    user.virtlab("cp", &["a file", &format!("{LAB}:/tmp/")]).ok();
    let text = user.virtlab("exec", &[LAB, "--", "cat '/tmp/a file'"]).ok();
    assert_eq!(sorted(&text), [format!("{LAB}-1 | by hand"), format!("{LAB}-2 | by hand")]);
    user.virtlab("cp", &["-r", &format!("{LAB}-2:/etc/acpi"), "got"]).ok();
    assert!(user.path().join("got/PWRF").is_dir());
    let (from, to) = (format!("{LAB}-1:/etc/hostname"), format!("{LAB}-2:/tmp/of-the-first"));
    user.virtlab("cp", &[&from, &to]).ok();
    let text = user.virtlab("ssh", &[&format!("{LAB}-2"), "cat", "/tmp/of-the-first"]).ok();
    assert_eq!(text, format!("{LAB}-1\n"));

    // ssh -F.
    let config = user.virtlab("ssh-config", &[LAB]).ok();
    let file = user.write("ssh_config", &config);
    let said = run("ssh", &["-F", file.to_str().unwrap(), &format!("{LAB}-2"), "hostname"]);
    assert_eq!(said.ok(), format!("{LAB}-2\n"));

    // Ansible. There is no Python on the nodes.
    let inventory = user.write_inventory();
    let inventory = inventory.to_str().unwrap();
    let said = run("ansible", &["-i", inventory, "e2e_in", "-m", "raw", "-a", "hostname"]).ok();
    // On a terminal, as Ansible has it.
    let said = said.replace('\r', "");
    for node in 1..=2 {
        assert!(said.contains(&format!("\n{LAB}-{node}\n")), "{said}");
    }

    // A node that is off is told of and does not keep the others.
    run("virsh", &["destroy", &format!("{LAB}-2")]).ok();
    let said = user.virtlab("exec", &[LAB, "--", "hostname"]);
    assert_eq!(said.code, Some(255), "{}", said.stderr);
    assert_eq!(said.stdout, format!("{LAB}-1 | {LAB}-1\n"));
    assert!(said.stderr.contains(&format!("{LAB}-2 | the node does not run")), "{}", said.stderr);
}

/// Somebody with a key and an image of their own.
struct User {
    folder: TempDir,
}

impl User {
    fn new() -> Self {
        let user = Self { folder: TempDir::new().unwrap() };
        let key = user.path().join("key");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]).ok();
        user.write("a file", "by hand\n");
        user.make_image();
        user.write("config.ign.j2", CONFIG);
        user
    }

    fn create(&self, agent: &Agent) {
        let file = |name: &str| self.path().join(name).to_str().unwrap().to_owned();
        let (image, config, key) = (file("image.toml"), file("config.ign.j2"), file("key.pub"));
        let files = ["--image", &image, "--config", &config, "--ssh-key", &key];
        let size = ["--nodes", "2", "--memory", "512MiB", "--timeout", "5m"];
        let ready = ["--ready", "command:grep -q made /tmp/made"];
        let mut create = virtlab_command(&[&["create", LAB][..], &files, &size, &ready].concat());
        Said::from(agent.serves(&mut create).output().unwrap()).ok();
    }

    /// virtlab as one who logs in with the key.
    fn virtlab(&self, verb: &str, args: &[&str]) -> Said {
        let key = self.path().join("key");
        let key = ["-i", key.to_str().unwrap()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtlab"));
        command.current_dir(self.path()).arg(verb).args(key).args(args);
        command.output().expect("virtlab runs").into()
    }

    fn write_inventory(&self) -> PathBuf {
        let (own, key) = (env!("CARGO_BIN_EXE_virtlab"), self.path().join("key"));
        let script = format!("#!/bin/sh\nexec {own} inventory -i {} \"$@\"\n", key.display());
        let path = self.write("inventory", &script);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The files of `micro`, and dropbear in an initrd of its own that the kernel unpacks over the other.
    fn make_image(&self) {
        let micro = virtlab(&["image", "build", "micro", "-o", "json"]).json();
        for file in micro[0]["files"].as_array().unwrap() {
            let name = file["name"].as_str().unwrap();
            fs::copy(file["path"].as_str().unwrap(), self.path().join(name)).unwrap();
        }
        self.write("image.toml", IMAGE);
        let tree = self.path().join("tree");
        for (program, place, package) in PROGRAMS {
            assert!(Path::new(program).exists(), "`{program}` is needed (package {package})");
            let said = run("ldd", &[program]).ok();
            let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
            for library in libraries {
                let name = Path::new(library).file_name().unwrap().to_str().unwrap();
                // The loader has its place, and so do the libraries beside those of `micro`.
                let folder = if name.starts_with("ld-linux") { "lib64" } else { "usr/lib" };
                copy(library, &tree.join(folder).join(name));
            }
            copy(program, &tree.join(place));
        }
        let list = run("find", &[tree.to_str().unwrap(), "-printf", "%P\n"]).ok();
        let names: Vec<&str> = list.lines().filter(|name| !name.is_empty()).collect();
        let archive = fs::File::create(self.path().join("dropbear.img")).unwrap();
        let mut cpio = Command::new("cpio")
            .args(["--quiet", "-o", "-H", "newc", "-R", "+0:+0"])
            .current_dir(&tree)
            .stdin(Stdio::piped())
            .stdout(archive.into_file())
            .spawn()
            .unwrap_or_else(|error| missing("cpio", &error));
        cpio.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
        assert!(cpio.wait().unwrap().success());
        assert!(read(&self.path().join("image.toml")).contains("dropbear.img"));
    }
}

/// An agent that has a key, until the test ends.
pub(crate) struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    pub(crate) fn with(key: &Path) -> Self {
        let socket = key.with_extension("agent");
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
        let child = agent.spawn().unwrap_or_else(|error| missing("ssh", &error));
        let agent = Self { child, socket };
        wait_until("the agent", Duration::from_secs(10), || agent.socket.exists());
        let mut add = Command::new("ssh-add");
        Said::from(agent.serves(&mut add).arg("-q").arg(key).output().unwrap()).ok();
        agent
    }

    /// Lets a program ask it.
    pub(crate) fn serves<'a>(&self, program: &'a mut Command) -> &'a mut Command {
        program.env("SSH_AUTH_SOCK", &self.socket)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

const LAB: &str = "e2e-in";
/// Where they are, where dropbear looks for them, and their packages.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("/usr/sbin/dropbear", "usr/sbin/dropbear", "dropbear-bin"),
    ("/usr/lib/openssh/sftp-server", "usr/lib/sftp-server", "openssh-sftp-server"),
];
const IMAGE: &str = r#"version = 1
name = "image"
description = "micro with an sshd"
arguments = "console=ttyS0 quiet ignition.config.url={{ config_url }}"
memory_mib = 512
config = "ignition"
ready = "ssh"
ssh_user = "root"
source.local.folder = "."

[[file]]
role = "kernel"
name = "vmlinuz"

[[file]]
role = "initrd"
name = "initrd.img"

[[file]]
role = "initrd"
name = "dropbear.img"
"#;
/// micro runs /etc/rc.local.
const CONFIG: &str = r#"{
  "ignition": { "version": "3.3.0" },
  "storage": { "files": [
    { "path": "/etc/hostname", "contents": { "source": "data:,{{ node.name }}%0A" } },
    { "path": "/root/.ssh/authorized_keys", "mode": 384,
      "contents": { "source": "data:,{{ ssh_keys|join("\n")|urlencode }}%0A" } },
    { "path": "/etc/rc.local", "mode": 493,
      "contents": { "source": "data:,mkdir%20-p%20/etc/dropbear%3B%20/usr/sbin/dropbear%20-R%3B%20sleep%203%3B%20echo%20made%20%3E/tmp/made%0A" } }
  ] }
}
"#;
