//! The article's PXE server from Debian's packages: docs/external-pxe.md, command by command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{LabGuard, Said, read, run, virtlab, wait_until};
use crate::wire::{Bridge, Machine};

#[test]
fn dhcpd_tftpd_hpa_and_nginx_boot_a_lab_by_ipxe() {
    a_server_boots_a_lab("isc-dhcp-server", "");
}

#[test]
fn dhcpd_tftpd_hpa_and_nginx_boot_a_lab_by_pxelinux() {
    a_server_boots_a_lab("isc-dhcp-server", "--loader pxelinux");
}

#[test]
fn kea_and_tftpd_hpa_boot_a_lab() {
    a_server_boots_a_lab("kea-dhcp4-server", "");
}

#[test]
fn dhcpd_and_kea_take_a_lab_beside_subnets_of_their_own() {
    let folder = open_folder();
    for loader in ["ipxe", "pxelinux"] {
        let tree = folder.path().join(loader);
        let export = ["pxe", "export", "xpart", "--boot-address", "10.77.0.1", "--loader", loader];
        let rest = ["--tftp-server", "10.77.0.2", "--memory", "512MiB", "--dir"];
        virtlab(&[&export[..], &rest, &[tree.to_str().unwrap()]].concat()).ok();
        let script = format!(
            "cp {0}/dhcpd.conf /etc/dhcp/virtlab-xpart.conf
             cat >/etc/dhcp/dhcpd.conf <<'END'
subnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.100 10.77.0.199; }}
{1}
END
             dhcpd -t -cf /etc/dhcp/dhcpd.conf
             cp {0}/kea-dhcp4.json /etc/kea/virtlab-xpart.json
             cat >/etc/kea/kea-dhcp4.conf <<'END'
{{ \"Dhcp4\": {{
{2}
  \"subnet4\": [ {{ \"id\": 1, \"subnet\": \"10.77.0.0/24\" }} ]
}} }}
END
             kea-dhcp4 -t /etc/kea/kea-dhcp4.conf",
            tree.display(),
            indented(&read(&tree.join("dhcpd.conf")), "#   "),
            indented(&read(&tree.join("kea-dhcp4.json")), "//   "),
        );
        let script = [OWN_FILES, &script].concat();
        run("unshare", &["--mount", "bash", "-euxc", &script]).ok();
    }
}

/// What the docs' commands make: `virtlab`'s on the host, and those of the server with `package` on a
/// machine of the wire.
fn a_server_boots_a_lab(package: &str, options: &str) {
    let folder = open_folder();
    let _bridge = Bridge::new("br0", "10.77.0.1/24");
    let machine = Machine::new("pxe", "br0", Some("10.77.0.2/24"), None);
    let log = folder.path().join("server.log");

    let _lab = LabGuard("demo");
    let (on_host, on_server) = commands_of_docs(package);
    let on_host = on_host.replace("--no-wait", &format!("--no-wait {options}"));
    run_in(folder.path(), &[VIRTLAB, &on_host].concat());
    let script = [OWN_FILES, NO_SYSTEMD, &on_server, "echo all are started; exec sleep infinity"];
    // With processes of its own: all that it has started end with it.
    let program = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let script = format!("cd {}\n{}", folder.path().display(), script.concat());
    let mut server = machine.start(&[&program[..], &["bash", "-euxc", &script]].concat(), &log);
    wait_until("the server to be up", Duration::from_secs(60), || {
        assert!(server.is_running(), "{}", read(&log));
        read(&log).lines().any(|line| line == "all are started")
    });

    let waited = virtlab(&["create", "demo", "--timeout", "12m"]);
    assert_eq!(waited.code, Some(0), "{}\n{}", waited.stderr, read(&log));
    let status = virtlab(&["status", "demo", "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    assert_eq!(status["etcd"]["members"].as_array().unwrap().len(), 3);
    for node in status["nodes"].as_array().unwrap() {
        assert!(node["ip"].as_str().unwrap().starts_with("10.77.0.1"), "{node}");
    }
}

/// The commands of docs/external-pxe.md for the nodes' host, and for the server with `package`.
fn commands_of_docs(package: &str) -> (String, String) {
    let docs = include_str!("../../docs/external-pxe.md");
    let (_, section) = docs.split_once("### A PXE server from Debian's packages\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let blocks: Vec<String> = section
        .split("\n\n")
        .filter(|block| block.starts_with("    "))
        .map(|block| indented(block, "    ") + "\n")
        .collect();
    let [lab, dhcpd, export, kea] = blocks.try_into().expect("the docs' four blocks of commands");
    if package == "isc-dhcp-server" {
        return (lab, dhcpd);
    }
    let create = lab.lines().next().expect("`create`");
    (format!("{create}\n{export}"), kea)
}

/// The lines that begin with `indent`, without it.
fn indented(text: &str, indent: &str) -> String {
    text.lines().filter_map(|line| line.strip_prefix(indent)).collect::<Vec<_>>().join("\n")
}

/// A folder that the daemons' users can read, as /srv is.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn run_in(folder: &Path, script: &str) {
    let output = Command::new("bash").args(["-euxc", script]).current_dir(folder).output();
    Said::from(output.expect("bash runs")).ok();
}

const VIRTLAB: &str = concat!("virtlab() { '", env!("CARGO_BIN_EXE_virtlab"), "' \"$@\"; }\n");

/// A machine's own /etc, /srv and /var: what is written there is gone when it ends.
const OWN_FILES: &str = "
mount -t tmpfs tmpfs /mnt
for folder in etc srv var; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    mount -t overlay overlay -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work /$folder
done
";

/// The packages are there (scripts/setup.sh test), root is who runs this, and no systemd does: the
/// packages' own init scripts start the daemons, and Kea is started as its unit says.
const NO_SYSTEMD: &str = "
sudo() { \"$@\"; }
apt() { :; }
systemctl() {
    shift
    local service
    for service; do
        if [ $service = kea-dhcp4-server ]; then start_kea; else service $service restart; fi
    done
}
start_kea() {
    install -d -o _kea -g _kea /var/lib/kea /var/log/kea /run/kea /run/lock/kea
    KEA_LOCKFILE_DIR=/run/lock/kea setpriv --reuid _kea --regid _kea --clear-groups \\
        --inh-caps +net_bind_service,+net_raw --ambient-caps +net_bind_service,+net_raw \\
        /usr/sbin/kea-dhcp4 -c /etc/kea/kea-dhcp4.conf &
}
";
