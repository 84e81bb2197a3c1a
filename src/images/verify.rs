//! Digest files and detached signatures.
//!
//! Signatures are checked by `GnuPG` itself, in a home directory that exists only for one check. The
//! pinned thing is the fingerprint of a primary key: `GnuPG` drops sub-keys that the primary key has
//! not bound, so that the key may come over the network and its sub-keys may be replaced every
//! year. (`gpgv` would be simpler, but it takes every key of its keyring for trustworthy, also
//! expired and revoked ones.)

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use tempfile::TempDir;

use crate::images::digest::Sha256;

/// The SHA-256 of a file in a digest file: the lines of `sha256sum`, in its plain and its `--tag`
/// form, or Flatcar's `.DIGESTS`, in which a `# SHA256 HASH` heads each section. The first of the
/// `names` that is listed counts.
///
/// # Errors
/// If no line names the file, or two lines disagree about it.
pub fn digest_of(text: &str, names: &[&str]) -> Result<Sha256> {
    for name in names {
        if let Some(digest) = listed(text, name)? {
            return Ok(digest);
        }
    }
    bail!("it lists no SHA-256 of `{}`", names.join("` or `"))
}

fn listed(text: &str, name: &str) -> Result<Option<Sha256>> {
    let mut found: Option<Sha256> = None;
    let mut is_sha256 = true;
    for line in text.lines().map(str::trim) {
        if let Some(heading) = line.strip_prefix('#') {
            if heading.to_ascii_uppercase().contains("HASH") {
                is_sha256 = heading.to_ascii_uppercase().contains("SHA256");
            }
            continue;
        }
        let tagged = line.strip_prefix("SHA256 (").and_then(|rest| rest.split_once(") = "));
        let entry = tagged.map(|(file, digest)| (digest, file)).or_else(|| {
            let (digest, file) = line.split_once(' ')?;
            Some((digest, file.trim_start().trim_start_matches('*')))
        });
        let Some((digest, file)) = entry else { continue };
        if !is_sha256 || file.trim_start_matches("./") != name {
            continue;
        }
        let Ok(digest) = digest.parse::<Sha256>() else { continue };
        ensure!(found.is_none_or(|other| other == digest), "it lists `{name}` twice, differently");
        found = Some(digest);
    }
    Ok(found)
}

/// What a good signature says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The fingerprint of the primary key.
    pub fingerprint: String,
    /// The key that signed has expired since; its signatures stay good.
    pub key_expired: bool,
}

/// Checks that `file` is signed by the primary key `fingerprint` or one of its sub-keys; `key` is the
/// public key, ASCII-armoured or binary, and `signature` the detached signature, likewise.
///
/// # Errors
/// If `GnuPG` is not installed, if `key` is another key, or if the signature is not good: then the
/// message says which of bad, by another key, by a revoked key, or expired.
pub fn check_signature(
    file: &Path,
    signature: &[u8],
    key: &[u8],
    fingerprint: &str,
) -> Result<Signature> {
    let (home, key_file) = home_with(key)?;
    let signature_file = home.path().join("signature");
    fs::write(&signature_file, signature)?;
    shown_key(home.path(), &key_file, fingerprint)?;
    gpg(home.path(), &["--import".as_ref(), key_file.as_os_str()])?;
    let status =
        gpg(home.path(), &["--verify".as_ref(), signature_file.as_os_str(), file.as_os_str()])?;
    judge(&status, fingerprint)
}

/// Checks that `key` is the public key with this fingerprint, and no other beside it.
///
/// # Errors
/// If it is not, or `GnuPG` is not installed.
pub fn check_key(key: &[u8], fingerprint: &str) -> Result<()> {
    let (home, key_file) = home_with(key)?;
    shown_key(home.path(), &key_file, fingerprint)
}

fn home_with(key: &[u8]) -> Result<(TempDir, PathBuf)> {
    let home = tempfile::Builder::new().prefix("virtlab-gpg-").tempdir()?;
    let key_file = home.path().join("key");
    fs::write(&key_file, key)?;
    Ok((home, key_file))
}

fn shown_key(home: &Path, key_file: &Path, fingerprint: &str) -> Result<()> {
    let shown = gpg(home, &["--show-keys".as_ref(), key_file.as_os_str()])?;
    let primaries = primary_fingerprints(&shown);
    ensure!(
        primaries.len() == 1 && primaries[0].eq_ignore_ascii_case(fingerprint),
        "the public key is not the pinned one: expected fingerprint {fingerprint}, found {}",
        if primaries.is_empty() { "no key".to_owned() } else { primaries.join(", ") }
    );
    Ok(())
}

/// Reads the status lines of `gpg --verify`.
/// <https://github.com/gpg/gnupg/blob/master/doc/DETAILS>, "Format of the --status-fd output".
fn judge(status: &str, fingerprint: &str) -> Result<Signature> {
    let lines: Vec<Vec<&str>> = status
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] "))
        .map(|line| line.split(' ').collect())
        .collect();
    let has = |keyword: &str| lines.iter().any(|line| line[0] == keyword);
    for (keyword, what) in [
        ("BADSIG", "the signature does not match the file"),
        ("REVKEYSIG", "the signature is by a key that was revoked"),
        ("EXPSIG", "the signature has expired"),
        ("NO_PUBKEY", "the signature is by another key"),
        ("ERRSIG", "the signature cannot be checked"),
        ("NODATA", "the signature file holds no signature"),
    ] {
        if has(keyword) {
            bail!("{what}; expected one of key {fingerprint}");
        }
    }
    // VALIDSIG's last field is the primary key's fingerprint.
    let valid: Vec<_> = lines.iter().filter(|line| line[0] == "VALIDSIG").collect();
    let is_pinned = |line: &&Vec<&str>| {
        line.last().is_some_and(|primary| primary.eq_ignore_ascii_case(fingerprint))
    };
    ensure!(
        !valid.is_empty() && valid.iter().all(is_pinned) && (has("GOODSIG") || has("EXPKEYSIG")),
        "the signature is not by key {fingerprint}"
    );
    Ok(Signature { fingerprint: fingerprint.to_uppercase(), key_expired: has("EXPKEYSIG") })
}

/// The fingerprints that follow a `pub` record of `--with-colons`.
fn primary_fingerprints(listing: &str) -> Vec<String> {
    let mut fingerprints = Vec::new();
    let mut is_primary = false;
    for line in listing.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[0] {
            "pub" => is_primary = true,
            "fpr" if is_primary => {
                fingerprints.push((*fields.get(9).unwrap_or(&"")).to_owned());
                is_primary = false;
            }
            _ => {}
        }
    }
    fingerprints
}

/// Runs gpg with nothing of the user's own; its verdict is in its output, not in its exit status.
fn gpg(home: &Path, arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args(["--batch", "--no-tty", "--no-autostart", "--with-colons", "--status-fd", "1"])
        .args(["--trust-model", "always"])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    match output {
        Ok(output) => {
            for line in String::from_utf8_lossy(&output.stderr).lines() {
                tracing::debug!("{line}");
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("`gpg` is not installed and checks this image's signature: install `gpg`")
        }
        Err(error) => Err(error).context("running gpg"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_files_are_read_in_all_their_forms() {
        let digest = Sha256::of(b"kernel");
        let other = Sha256::of(b"other");
        let sha512 = "0".repeat(128);
        for text in [
            format!("{other}  initrd\n{digest}  vmlinuz\n"),
            format!("{digest} *vmlinuz\n"),
            format!("{digest}  ./vmlinuz"),
            format!("SHA256 (vmlinuz) = {digest}\n"),
            format!("# SHA256 HASH\n{digest}  vmlinuz\n# SHA512 HASH\n{sha512}  vmlinuz\n"),
            format!("# SHA3 HASH\n{other}  vmlinuz\n# SHA256 HASH\n{digest}  vmlinuz\n"),
        ] {
            assert_eq!(digest_of(&text, &["vmlinuz"]).unwrap(), digest, "{text}");
        }
    }

    #[test]
    fn a_digest_file_that_says_nothing_or_two_things_is_refused() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        for (text, expected) in [
            (format!("{a}  vmlinuz.old\n"), "it lists no SHA-256 of `vmlinuz`"),
            ("<html>404</html>".to_owned(), "it lists no SHA-256 of `vmlinuz`"),
            (format!("{a}  vmlinuz\n{b}  vmlinuz\n"), "it lists `vmlinuz` twice, differently"),
        ] {
            assert_eq!(digest_of(&text, &["vmlinuz"]).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_name_with_its_folder_counts_before_the_bare_one() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let names = ["boot/vmlinuz", "vmlinuz"];
        for (text, expected) in [
            (format!("{a}  vmlinuz\n{b}  boot/vmlinuz\n"), Ok(b)),
            (format!("{a}  vmlinuz\n{b}  rescue/vmlinuz\n"), Ok(a)),
            (
                format!("{b}  rescue/vmlinuz\n"),
                Err("it lists no SHA-256 of `boot/vmlinuz` or `vmlinuz`".to_owned()),
            ),
        ] {
            let digest = digest_of(&text, &names).map_err(|error| error.to_string());
            assert_eq!(digest, expected, "{text}");
        }
    }

    #[test]
    fn only_a_good_signature_of_the_pinned_primary_key_counts() {
        let key = "A".repeat(40);
        let valid =
            format!("[GNUPG:] VALIDSIG {} 2026-01-01 0 0 4 0 1 10 00 {key}", "B".repeat(40));
        let foreign = valid.replace(&key, &"C".repeat(40));
        let bad = format!("{valid}\n[GNUPG:] GOODSIG X y\n[GNUPG:] BADSIG X y");
        for (status, expected) in [
            (format!("[GNUPG:] GOODSIG X y\n{valid}"), Ok(false)),
            (format!("[GNUPG:] EXPKEYSIG X y\n{valid}"), Ok(true)),
            (format!("[GNUPG:] GOODSIG X y\n{foreign}"), Err("the signature is not by key ")),
            (format!("[GNUPG:] GOODSIG X y\n{valid}\n{foreign}"), Err("the signature is not by ")),
            (
                format!("[GNUPG:] REVKEYSIG X y\n{valid}"),
                Err("the signature is by a key that was "),
            ),
            (bad, Err("the signature does not match the file")),
            (valid.clone(), Err("the signature is not by key ")),
            ("GOODSIG".to_owned(), Err("the signature is not by key ")),
            (String::new(), Err("the signature is not by key ")),
        ] {
            match (judge(&status, &key), expected) {
                (Ok(signature), Ok(expired)) => assert_eq!(signature.key_expired, expired),
                (Err(error), Err(text)) => assert!(error.to_string().starts_with(text), "{error}"),
                (judged, _) => panic!("{status}: {judged:?}"),
            }
        }
    }
}
