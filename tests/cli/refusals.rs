//! Wrong inputs: one clear error each, with the flag and the way out. The command line is wrong: 2;
//! what it asks for cannot be: 1.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use fs_err as fs;

use crate::support::{FOREIGN, RUNNING, SHUT_OFF, User, assert_transcript, text};

#[test]
fn a_wrong_command_line_is_refused_with_2() {
    let user = User::new();
    assert_transcript!(
        "usage",
        user.session(&[
            &["create", "--nodes", "0"],
            &["create", "--nodes", "100000"],
            &["create", "--nodes", "many"],
            &["create", "--memory", "1MiB"],
            &["create", "--memory", "lots"],
            &["create", "--vcpus", "0"],
            &["create", "--subnet", "10.0.0.0"],
            &["create", "--subnet", "fd00::/64"],
            &["create", "--subnet", "127.0.0.0/8"],
            &["create", "--mac-prefix", "01:00:5e"],
            &["create", "--stagger", "soon"],
            &["create", "--network", ""],
            &["create", "--ready", "soon"],
            &["create", "--ready", "tcp:0"],
            &["create", "--discovery", ""],
            &["create", "--discovery", "ftp://x"],
            &["create", "--discovery", "http://x/new?size=3"],
            &["create", "<&'\""],
            &["create", "Demo"],
            &["render", "--node", "0"],
            &["destroy", "--all", "demo"],
            &["crate"],
            &[],
        ])
    );
}

#[test]
fn a_dhcp_range_that_the_labs_nodes_cannot_have_is_refused() {
    let user = User::new();
    let export = ["pxe", "export", "demo", "--memory", "512MiB", "--boot-address", "10.77.0.1"];
    let with = |args: &[&'static str]| [&export[..], &["--dir", "tree"], args].concat();
    let cases = [
        with(&["--dhcp-range", "10.77.0.100/24"]),
        with(&["--dhcp-range", "10.77.0.200-10.77.1.9/24"]),
        with(&["--dhcp-router", "10.77.0.1"]),
        with(&["--dhcp-range", "10.77.0.100-10.77.0.101/24", "--nodes", "3"]),
    ];
    let cases: Vec<&[&str]> = cases.iter().map(Vec::as_slice).collect();
    assert_transcript!("dhcp-range", user.session(&cases));
}

#[test]
fn an_image_that_is_not_there_or_too_large_is_refused() {
    let user = User::new();
    user.write("broken.toml", "version = 1\nname = 'broken'\nmemory = 12\n");
    assert_transcript!(
        "images",
        user.session(&[
            &["create", "--image", "mikro"],
            &["create", "--image", "none.toml"],
            &["create", "--image", "broken.toml"],
            &["create", "--image", "tiny.toml", "--memory", "128MiB"],
            &["create", "--image", "tiny.toml", "--ready", "command:true"],
        ])
    );
}

#[test]
fn a_subnet_that_is_taken_or_too_small_is_refused() {
    let user = User::with(FOREIGN);
    let create = |subnet: &'static str| ["create", "--image", "tiny.toml", "--subnet", subnet];
    assert_transcript!(
        "subnets",
        user.session(&[
            &create("192.168.122.128/25"),
            &create("192.168.0.0/16"),
            &create("10.201.0.0/30"),
            &create("10.201.0.0/31"),
            &create("10.201.0.0/32"),
        ])
    );
}

#[test]
fn names_that_somebody_else_has_are_refused_before_anything_is_made() {
    let domain = "<domain type='test'><name>demo-2</name><memory>65536</memory>\
        <os><type>hvm</type></os></domain>";
    let network = "<network><name>demo</name><bridge name='virbr9'/></network>";
    let pool = "<pool type='dir'><name>virtlab-demo</name><target><path>/x</path></target></pool>";
    let create = ["create", "demo", "--image", "tiny.toml", "--subnet", "10.201.0.0/24"];
    let sessions = [domain, network, pool].map(|object| User::with(object).says(&create));
    assert_transcript!("taken-names", sessions.join("\n"));
}

#[test]
fn a_name_that_would_be_a_lab_and_a_node_is_refused() {
    let user = User::with_a_lab();
    let lab = |name| ["create", name, "--image", "tiny.toml", "--subnet", "10.202.0.0/24"];
    let of_a_node = user.says(&lab("demo-2"));
    // One more than the lab has.
    let free = user.virtlab(&[&lab("demo-3")[..], &["--dry-run"]].concat()).output().unwrap();
    assert!(free.status.success(), "{}", text(&free.stderr));
    user.seed(&user.lab("demo-2", &[SHUT_OFF]));
    let has_such_a_node = user.says(&lab("demo"));
    assert_transcript!("shared-names", [of_a_node, has_such_a_node].join("\n"));
}

#[test]
fn an_existing_lab_that_is_different_is_not_changed() {
    let user = User::with_a_lab();
    assert_transcript!(
        "different",
        user.says(&["create", "demo", "--nodes", "5", "--memory", "2GiB"])
    );
}

#[test]
fn a_lab_that_is_not_there_is_said_to_be_not_there() {
    let user = User::with_a_lab();
    assert_transcript!(
        "unknown-lab",
        user.session(&[
            &["status", "nope"],
            &["status", "demmo"],
            &["destroy", "dmo"],
            &["destroy", "nope"],
            &["serve", "nope"],
            &["render", "demo", "--node", "9"],
        ])
    );
}

#[test]
fn a_line_of_any_length_is_not_repeated_whole() {
    let user = User::new();
    let long = "x".repeat(100_000);
    user.write("long.toml", &format!("version = 1\nnodes = '{long}'\n"));
    let entry = fs::read_to_string(user.path().join("tiny.toml")).unwrap();
    user.write("image.toml", &entry.replace("\"tiny\"", &format!("\"{long}/\"")));
    for args in [
        &["create", "-f", "long.toml"][..],
        &["create", "--image", "image.toml"],
        &["create", "--image", &long],
        &["create", &long],
    ] {
        let output = user.virtlab(args).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.len() < 5000, "{args:?}: {} bytes", said.len());
        assert!(said.contains(" characters more)"), "{said}");
    }
}

#[test]
fn other_arguments_of_the_image_are_a_difference() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING]);
    user.seed_with_image(&lab);
    let uuid = lab.split_once(" uuid=\"").unwrap().1.split_once('"').unwrap().0;
    let content = |arguments: &str| {
        format!(
            r#"{{"lab": "demo", "uuid": "{uuid}", "address": "10.201.0.1", "port": 8470, "files": {{}},
            "config_type": "text/plain", "nodes": [{{"index": 1, "name": "demo-1", "script": "",
            "mac": "52:54:00:00:00:01", "ip": "10.201.0.2", "config": ""{arguments}}}]}}"#
        )
    };
    let says = |arguments: &str| {
        let folder = format!(".local/state/virtlab/demo.{uuid}/content.json");
        user.write(&folder, &content(arguments));
        user.says(&["create", "demo", "--image", "tiny.toml", "--dry-run"])
    };
    assert_transcript!("other-arguments", says(r#", "arguments": "console=ttyS9""#));
    // Of a lab of before nothing is known.
    let said = says("");
    assert!(said.contains("exit 0"), "{said}");
}

#[test]
fn a_wrong_lab_file_is_refused_with_line_and_column() {
    let user = User::new();
    let mut transcripts = vec![user.says(&["create", "-f", "none.toml"])];
    for text in [
        "version = 1\nnods = 3\n",
        "version = 1\nnodes = 0\n",
        "version = 1\n\nmemory = '1MiB'\n",
        "version = 1\nname = \"<&'\"\n",
        "version = 1\nsubnet = '127.0.0.0/8'\n",
        "version = 2\n",
        "nodes = 3\n",
        "version = \n",
    ] {
        user.write("lab.toml", text);
        transcripts.push(user.says(&["create", "-f", "lab.toml"]));
    }
    assert_transcript!("lab-files", transcripts.join("\n"));
}

#[test]
fn a_wrong_template_is_refused_with_file_and_line() {
    let user = User::new();
    let mut transcripts = Vec::new();
    for (name, text) in [
        ("domain-templates/domain.xml.j2", "<domain>\n{% if %}\n</domain>"),
        ("domain-templates/domain.xml.j2", "<domain>\n{{ node.nmae }}\n</domain>"),
        ("domain-templates/domain.xml.j2", "<domain>{{ metadata }}"),
        ("network-templates/nat.xml.j2", "<network><name>{{ lab.name }}</name></network>"),
        ("config-templates/etcd-micro.ign.j2", "{{ 'x'|nofilter }}"),
    ] {
        let folder = user.path().join("mine");
        let _ = fs::remove_dir_all(&folder);
        user.write(&format!("mine/{name}"), text);
        let create = ["create", "--image", "tiny.toml", "--dry-run", "--template-dir", "mine"];
        transcripts.push(user.says(&create));
    }
    assert_transcript!("templates", transcripts.join("\n"));
}

#[test]
fn what_xml_cannot_hold_is_refused() {
    let user = User::new();
    assert_transcript!(
        "control-characters",
        user.session(&[
            &["render", "--description", "a\u{1}b", "--part", "domain"],
            &["create", "--image", "tiny.toml", "--description", "\u{1b}[31m"],
        ])
    );
}

#[test]
fn without_a_libvirt_daemon_the_way_out_is_told() {
    let user = User::new();
    let uri = "qemu+unix:///system?socket=/nonexistent";
    assert_transcript!(
        "no-daemon",
        user.session(&[
            &["-c", uri, "list"],
            &["-c", uri, "create"],
            &["-c", "qemu+unix:///system?socket=relative", "list"],
            &["-c", "test:///nonexistent/node.xml", "list"],
            &["-c", "qemu+ssh://[::1/system", "list"],
            &["-c", "test+tcp://[::1]:1/default", "create"],
        ])
    );
}

#[test]
fn without_permission_the_way_out_is_told() {
    let user = User::new();
    let everybody = |path: &std::path::Path, mode: u32| {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    // A socket somebody listens on and nobody may use. Root may: so we are somebody else, whom the
    // build's folder may be closed to.
    let socket = user.path().join("libvirt-sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    everybody(&socket, 0o000);
    everybody(user.path(), 0o755);
    let binary = user.path().join("virtlab");
    fs::copy(env!("CARGO_BIN_EXE_virtlab"), &binary).unwrap();
    everybody(&binary, 0o755);

    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    command.args(["-c", &uri, "list"]).env_clear().env("HOME", user.path());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(user.path());
    let output = command.output().expect("`setpriv` (package util-linux) is needed");
    let said = text(&output.stderr);
    let socket = socket.display();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        said,
        format!(
            "error: connecting to libvirt at `{uri}`: Failed to connect socket to '{socket}': Permission denied\n\n\
             hint: you may not use the host's libvirt yet: join its group with `sudo usermod -aG libvirt $USER`, \
             then log in again\n"
        )
    );
}
