//! Keys made for one test, by real gpg in a home directory of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::run;

/// A primary key that only certifies, and a sub-key that signs, as Flatcar has them.
pub(crate) struct Signer {
    home: TempDir,
    pub(crate) fingerprint: String,
    /// When gpg thinks that it is.
    now: Option<&'static str>,
}

impl Signer {
    pub(crate) fn new() -> Self {
        Self::with_sub_key("never", None)
    }

    /// Its sub-key was valid for a year from `now`, such as `20200101T000000`, and signed then.
    pub(crate) fn of_the_past(now: &'static str) -> Self {
        Self::with_sub_key("1y", Some(now))
    }

    fn with_sub_key(expires: &str, now: Option<&'static str>) -> Self {
        let home = tempfile::Builder::new().prefix("vl-gpg-").tempdir().unwrap();
        let mut signer = Self { home, fingerprint: String::new(), now };
        let user = "Test Buildbot <test@example.org>";
        signer.gpg(&["--quick-gen-key", user, "ed25519", "cert", "never"]);
        let listing = signer.gpg(&["--with-colons", "--list-keys"]);
        let listing = String::from_utf8(listing).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().clone_into(&mut signer.fingerprint);
        signer.gpg(&["--quick-add-key", &signer.fingerprint, "ed25519", "sign", expires]);
        signer
    }

    /// The public key, ASCII-armoured.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.gpg(&["--armor", "--export"])
    }

    /// The public key, binary.
    pub(crate) fn binary_key(&self) -> Vec<u8> {
        self.gpg(&["--export"])
    }

    /// A detached signature.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let file = self.home.path().join("file");
        fs::write(&file, bytes).unwrap();
        self.gpg(&["--detach-sign", "--output", "-", file.to_str().unwrap()])
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = gpg(self.home.path());
        if let Some(now) = self.now {
            command.args(["--faked-system-time", now]);
        }
        run("gpg", command.args(arguments))
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", self.home.path())
            .args(["--kill", "all"])
            .status();
    }
}

fn gpg(home: &Path) -> Command {
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(home);
    command.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
    command
}

/// The packets of a binary key: their tags and all of their bytes (RFC 9580, section 4.2).
pub(crate) fn packets(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut packets = Vec::new();
    while let Some(&first) = bytes.first() {
        assert_eq!(first & 0xc0, 0x80, "gpg writes the old packet format");
        let length_type = first & 3;
        let field: usize = 1 << length_type;
        let length = bytes[1..=field].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (packet, rest) = bytes.split_at(1 + field + length);
        packets.push(((first >> 2) & 15, packet));
        bytes = rest;
    }
    packets
}
