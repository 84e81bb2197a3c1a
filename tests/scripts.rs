//! What the scripts beside the program read of a computer: here, the mirror that apt uses.

use std::path::Path;
use std::process::Command;

use fs_err as fs;

/// As Debian's container images have it.
const CONTAINER: &str = "\
Types: deb
# http://snapshot.debian.org/archive/debian/20250520T000000Z
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
# http://snapshot.debian.org/archive/debian-security/20250520T000000Z
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// As Debian's cloud images have it; `@` is the folder of mirror lists.
const CLOUD: &str = "\
Types: deb deb-src
URIs: mirror+file://@/debian.list
Suites: trixie trixie-updates trixie-backports
Components: main

Types: deb deb-src
URIs: mirror+file://@/debian-security.list
Suites: trixie-security
Components: main
";

/// As Debian's installer writes it.
const INSTALLER: &str = "\
#deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_ - Official amd64 NETINST]/ bookworm main

deb http://ftp.de.debian.org/debian/ bookworm main non-free-firmware
deb-src http://ftp.de.debian.org/debian/ bookworm main non-free-firmware

deb http://security.debian.org/debian-security bookworm-security main non-free-firmware
deb-src http://security.debian.org/debian-security bookworm-security main non-free-firmware

# bookworm-updates, to get updates before a point release is made;
deb http://ftp.de.debian.org/debian/ bookworm-updates main non-free-firmware
";

/// As Ubuntu 24.04 has it.
const UBUNTU: &str = "\
Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates noble-backports
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://security.ubuntu.com/ubuntu/
Suites: noble-security
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
";

/// An apt that reads the files of a folder instead of the computer's own.
struct Apt(tempfile::TempDir);

impl Apt {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        for sub in ["parts", "lists"] {
            fs::create_dir(folder.path().join(sub)).unwrap();
        }
        for (name, text) in files {
            fs::write(folder.path().join(name), text.replace('@', path)).unwrap();
        }
        let conf = format!(
            "Dir::Etc::SourceList \"{path}/sources.list\";\nDir::Etc::SourceParts \"{path}/parts\";\n\
             Dir::State::Lists \"{path}/lists\";\n"
        );
        fs::write(folder.path().join("apt.conf"), conf).unwrap();
        Self(folder)
    }

    /// Exit status and output of `apt-mirror KIND SUITES`, and nothing may be on stderr.
    fn mirror(&self, kind: &str, suites: &str) -> (i32, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/debian/apt-mirror");
        let mut command = Command::new(script);
        command.args([kind, suites]).env("APT_CONFIG", self.0.path().join("apt.conf"));
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

fn entry(uri: &str, suites: &str, rest: &str) -> (i32, String) {
    (0, format!("Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\n{rest}"))
}

#[test]
fn a_suite_comes_from_the_mirror_and_the_key_of_a_sources_file() {
    let apt = Apt::new(&[("parts/debian.sources", CONTAINER)]);
    let key = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
    assert_eq!(
        apt.mirror("main", "bookworm-backports"),
        entry("http://deb.debian.org/debian/", "bookworm-backports", key)
    );
    assert_eq!(
        apt.mirror("security", "trixie-security"),
        entry("http://deb.debian.org/debian-security/", "trixie-security", key)
    );
}

#[test]
fn a_mirror_list_is_replaced_by_its_first_mirror() {
    let apt = Apt::new(&[
        ("parts/debian.sources", CLOUD),
        (
            "debian.list",
            "# nearest first\nhttps://mirror.example/debian/\tpriority:1\nhttps://deb.debian.org/debian\n",
        ),
        ("debian-security.list", "https://mirror.example/debian-security\n"),
    ]);
    assert_eq!(
        apt.mirror("main", "trixie trixie-updates"),
        entry("https://mirror.example/debian/", "trixie trixie-updates", "")
    );
    assert_eq!(
        apt.mirror("security", "trixie-security"),
        entry("https://mirror.example/debian-security/", "trixie-security", "")
    );
}

#[test]
fn the_lines_of_a_list_file_are_read() {
    let apt = Apt::new(&[("sources.list", INSTALLER)]);
    assert_eq!(
        apt.mirror("main", "bookworm"),
        entry("http://ftp.de.debian.org/debian/", "bookworm", "")
    );
    assert_eq!(
        apt.mirror("security", "bookworm-security"),
        entry("http://security.debian.org/debian-security/", "bookworm-security", "")
    );
}

#[test]
fn options_in_a_list_file_keep_their_meaning() {
    let apt = Apt::new(&[(
        "sources.list",
        "deb [arch=amd64 signed-by=/etc/apt/keyrings/ours.gpg trusted=yes] https://mirror.example/debian bookworm main\n",
    )]);
    assert_eq!(
        apt.mirror("main", "bookworm"),
        entry(
            "https://mirror.example/debian/",
            "bookworm",
            "Signed-By: /etc/apt/keyrings/ours.gpg\nTrusted: yes\n"
        )
    );
}

#[test]
fn a_key_that_is_in_the_file_itself_is_taken_along() {
    let key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n";
    let stanza = format!(
        "Types: deb\nURIs: https://mirror.example/debian\nSuites: bookworm\nComponents: main\n{key}"
    );
    let off = "# by hand\n\nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n";
    let apt = Apt::new(&[("parts/debian.sources", &format!("{off}\n{stanza}"))]);
    assert_eq!(
        apt.mirror("main", "bookworm"),
        entry("https://mirror.example/debian/", "bookworm", key)
    );
}

#[test]
fn other_archives_with_the_names_of_debian_are_not_its_mirror() {
    let others = "deb https://packages.example/repo/10.11/debian bookworm main\n\
                  deb https://download.docker.com/linux/debian bookworm stable\n\
                  deb https://apt.releases.hashicorp.com bookworm main\n";
    let apt = Apt::new(&[("sources.list", others), ("parts/debian.sources", CONTAINER)]);
    let key = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
    assert_eq!(
        apt.mirror("main", "bookworm"),
        entry("http://deb.debian.org/debian/", "bookworm", key)
    );
}

#[test]
fn a_mirror_of_any_name_is_known_by_its_release_file() {
    let apt = Apt::new(&[
        ("sources.list", "deb https://artifacts.example/remote-deb bookworm main\n"),
        (
            "lists/artifacts.example_remote-deb_dists_bookworm_Release",
            "Origin: Debian\nLabel: Debian\nCodename: bookworm\n",
        ),
        (
            "lists/artifacts.example_remote-deb_dists_bookworm_main_binary-amd64_Packages",
            "Package: x\nVersion: 1\nArchitecture: amd64\n",
        ),
    ]);
    assert_eq!(
        apt.mirror("main", "bookworm"),
        entry("https://artifacts.example/remote-deb/", "bookworm", "")
    );
}

#[test]
fn where_apt_has_no_debian_nothing_is_printed() {
    let apt = Apt::new(&[("parts/ubuntu.sources", UBUNTU)]);
    assert_eq!(apt.mirror("main", "bookworm"), (1, String::new()));
    assert_eq!(apt.mirror("security", "bookworm-security"), (1, String::new()));
}
