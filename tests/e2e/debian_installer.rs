//! Debian's own installer as a user's image: unmodified files, booted the classic way.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{LabGuard, virtlab, wait_until};

/// Where Debian's packages put the installers, in a folder for each release.
const INSTALLERS: &str = "/usr/lib/debian-installer/images";

fn files() -> PathBuf {
    let releases = std::fs::read_dir(INSTALLERS).into_iter().flatten().flatten();
    releases
        .map(|release| release.path().join("amd64/text/debian-installer/amd64"))
        .find(|folder| folder.join("linux").exists())
        .expect("the installer is missing (package debian-installer-12-netboot-amd64, or of another release)")
}

#[test]
fn debians_installer_boots_to_its_first_screen_by_pxelinux() {
    let files = files();
    let files = files.display();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("installer.toml");
    let text = format!(
        r#"version = 1
name = "installer"
description = "Debian's installer"
arguments = "console=ttyS0 --- quiet"
memory_mib = 512
config = "none"
ready = "config"
source.local.folder = "{files}"

[[file]]
role = "kernel"
name = "linux"

[[file]]
role = "initrd"
name = "initrd.gz"
"#
    );
    std::fs::write(&image, text).unwrap();
    let _guard = LabGuard("installer");
    let said = virtlab(&[
        "create",
        "installer",
        "--nodes",
        "1",
        "--memory",
        "1536MiB",
        "--disk",
        "4GiB",
        "--image",
        image.to_str().unwrap(),
        "--loader",
        "pxelinux",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    // Nothing of such a boot is seen by the boot server: powered on is all it can say.
    let status = virtlab(&["status", "installer", "-o", "json"]).json();
    assert_eq!(status["nodes"][0]["ready"], true, "{status}");
    let console = "/var/lib/libvirt/virtlab-installer/installer-1.console.log";
    let mut said = String::new();
    wait_until("the installer's first screen", Duration::from_secs(1800), || {
        said = String::from_utf8_lossy(&std::fs::read(console).unwrap()).into_owned();
        said.contains("Select a language")
    });
    assert!(said.contains("PXELINUX"), "{said}");
}
