//! libvirt's own schemas: those that are installed, and those of Debian 12's libvirt 9.0, which refuse what
//! is newer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fs_err as fs;

/// Checks XML against the installed schemas, by the program that libvirt brings for it.
pub(crate) fn validate(schema: &str, xml: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), xml).unwrap();
    let mut command = Command::new("virt-xml-validate");
    run(command.arg(file.path()).arg(schema), "libvirt-clients", xml);
}

/// Checks XML against the installed schemas and the old ones: as every libvirt has to read it.
pub(crate) fn validate_old_and_new(schema: &str, xml: &str) {
    validate(schema, xml);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), xml).unwrap();
    let rng = old_schemas().join(format!("{schema}.rng"));
    let mut command = Command::new("xmllint");
    run(command.args(["--noout", "--relaxng"]).arg(rng).arg(file.path()), "libxml2-utils", xml);
}

/// The same for many texts in one go, which takes a hundredth of the time.
#[allow(dead_code, reason = "not every test that checks XML has so much of it")]
pub(crate) fn validate_all_old_and_new(schema: &str, texts: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> =
        (0..texts.len()).map(|index| folder.path().join(format!("{index}.xml"))).collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).unwrap();
    }
    for schemas in [Path::new("/usr/share/libvirt/schemas"), old_schemas()] {
        let mut command = Command::new("xmllint");
        command.args(["--noout", "--relaxng"]).arg(schemas.join(format!("{schema}.rng")));
        run(command.args(&files), "libxml2-utils", "");
    }
}

/// The folder of the old schemas, unpacked from Debian's package the first time.
fn old_schemas() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-12-schemas");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/old-schemas.sh");
        run(Command::new(script).arg(&folder), "apt", "");
        folder
    })
}

fn run(command: &mut Command, package: &str, text: &str) {
    let program = command.get_program().to_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "`{}` is needed for this test; install package {package} ({error})",
            program.display()
        )
    });
    assert!(
        output.status.success(),
        "{}: {}{}\n{text}",
        program.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
