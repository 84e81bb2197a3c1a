//! The public SSH keys that may log in to the nodes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;

use crate::error::hinted;
use crate::output::sanitize;

/// The public keys that may log in to nodes: those in the files that were `named`, or else the user's own.
///
/// # Errors
/// If a file that was named cannot be read or holds no key.
pub fn keys_of_user(named: &[PathBuf]) -> Result<Vec<String>> {
    let home = etcetera::home_dir().context("looking for the home directory")?;
    public_keys(named, &home.join(".ssh"))
}

/// The keys of `files`, or those of the user's own `*.pub` files in `ssh_folder` if none is named.
///
/// # Errors
/// If a named file cannot be read or holds no public key; of the user's own, those are left out.
fn public_keys(files: &[PathBuf], ssh_folder: &Path) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).context("reading an SSH key (--ssh-key)")?;
        let found = parse(&text)
            .with_context(|| format!("reading the SSH key `{}` (--ssh-key)", file.display()))?;
        keys.extend(found);
    }
    if files.is_empty() {
        for file in own_files(ssh_folder) {
            let found = fs::read_to_string(&file).map_err(Into::into).and_then(|text| parse(&text));
            match found {
                Ok(found) => keys.extend(found),
                Err(error) => tracing::info!("leaving out {}: {error:#}", file.display()),
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    Ok(keys)
}

fn own_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
        // A certificate is a file of that kind too, and no key to let in.
        .filter(|path| !path.to_string_lossy().ends_with("-cert.pub"))
        .collect();
    files.sort();
    files
}

/// Reads the form of `authorized_keys`, without options; sshd(8).
fn parse(text: &str) -> Result<Vec<String>> {
    if text.contains("PRIVATE KEY-----") {
        return Err(hinted(
            "it is a private key, which must stay with you",
            "the public one is beside it, in the file that ends in `.pub`",
        ));
    }
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(parse_line).collect::<Result<_>>()?;
    if keys.is_empty() {
        bail!("there is no key in it");
    }
    Ok(keys)
}

/// `ssh-ed25519 AAAA… comment`. The blob repeats the type, which tells a key from other text.
fn parse_line(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let bytes = STANDARD.decode(blob).unwrap_or_default();
    // RFC 4253, 6.6: a string is its length in four bytes, then itself.
    let inner = bytes.get(4..4 + kind.len());
    if kind.is_empty() || inner != Some(kind.as_bytes()) || line.chars().any(char::is_control) {
        let start: String = line.chars().take(LONGEST_QUOTE).collect();
        bail!("`{}` is no public SSH key, such as `ssh-ed25519 AAAA…`", sanitize(&start));
    }
    Ok(line.to_owned())
}

const LONGEST_QUOTE: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPYOyPUjmTwiyFGHkgb+LKCYDCPkhFfQ5Hkh8ODXyKbT me@here";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFbLAhP24tq0B5xU44I6KAHQqRLy6Ow8m8Td3+XtCbwS";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn named_files_are_taken_and_nothing_else() {
        let text = format!("# mine\n\n{KEY}\n{OTHER}\n{KEY}\n");
        let folder = folder(&[("authorized_keys", &text), ("id.pub", KEY)]);
        let named = [folder.path().join("authorized_keys")];
        assert_eq!(public_keys(&named, folder.path()).unwrap(), [KEY, OTHER]);
    }

    #[test]
    fn without_a_name_the_users_own_public_keys_are_taken() {
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
        let folder = folder(&[
            ("id_b.pub", KEY),
            ("id_a.pub", OTHER),
            ("id_a", private),
            ("strange.pub", private),
            ("id_a-cert.pub", "ssh-ed25519-cert-v01@openssh.com AAAA"),
        ]);
        assert_eq!(public_keys(&[], folder.path()).unwrap(), [OTHER, KEY]);
        assert_eq!(public_keys(&[], &folder.path().join("none")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for (text, expected) in [
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n",
                "it is a private key, which must stay with you",
            ),
            ("", "there is no key in it"),
            ("hello world", "`hello world` is no public SSH key, such as `ssh-ed25519 AAAA…`"),
            (
                "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIPYO",
                "`ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIPYO` is no public SSH key, such as `ssh-ed25519 AAAA…`",
            ),
        ] {
            let folder = folder(&[("key", text)]);
            let file = folder.path().join("key");
            let error = format!(
                "{:#}",
                public_keys(std::slice::from_ref(&file), folder.path()).unwrap_err()
            );
            let context = format!("reading the SSH key `{}` (--ssh-key): ", file.display());
            assert_eq!(error, format!("{context}{expected}"));
        }
    }
}
