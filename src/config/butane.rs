//! Butane, the form in which people write Ignition configs. It is not made anew here: `butane` itself
//! translates. <https://coreos.github.io/butane/>

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::filter;
use crate::error::hinted;
use crate::output::sanitize;

/// Whether a file of this name holds a Butane config, be it a template or not.
pub fn is_butane(source: &str) -> bool {
    let name = source.strip_suffix(".j2").unwrap_or(source);
    Path::new(name).extension().is_some_and(|extension| extension == "bu")
}

/// The Ignition config that a Butane config means.
///
/// # Errors
/// If `butane` is not installed, or does not like the config.
pub fn to_ignition(text: &str) -> Result<String> {
    translate("butane", text)
}

fn translate(program: &str, text: &str) -> Result<String> {
    let output = filter(Command::new(program).arg("--strict"), text);
    let Some(output) = output.with_context(|| format!("running `{program}`"))? else {
        return Err(hinted(
            format!("`{program}` is not installed, and a `.bu` config needs it"),
            "get it from https://coreos.github.io/butane/getting-started/, or give the Ignition config itself",
        ));
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<String> = said.lines().map(sanitize).collect();
        bail!("`{program}` says: {}", lines.join("; "));
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading what `{program}` wrote"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use fs_err as fs;

    use super::*;

    #[test]
    fn butane_is_told_by_the_files_name() {
        for (source, expected) in
            [("a.bu", true), ("/x/a.bu.j2", true), ("a.ign.j2", false), ("bu", false)]
        {
            assert_eq!(is_butane(source), expected, "{source}");
        }
    }

    #[test]
    fn a_missing_butane_is_named() {
        let error = translate("butane-that-is-not-there", "x: 1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`butane-that-is-not-there` is not installed, and a `.bu` config needs it"
        );
    }

    #[test]
    fn the_config_goes_through_the_program_and_its_complaint_is_told() {
        // How butane is called and understood, without it: it is in no Debian package.
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("butane");
        let script = "#!/bin/sh\n[ \"$*\" = --strict ] || exit 9\nread -r line\n\
            [ \"$line\" = 'variant: fcos' ] || { echo \"Error: no variant\" >&2; exit 1; }\necho \"{}\"\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.to_str().unwrap();
        assert_eq!(translate(program, "variant: fcos\n").unwrap(), "{}\n");
        assert_eq!(
            translate(program, "x\n").unwrap_err().to_string(),
            format!("`{program}` says: Error: no variant")
        );
    }
}
