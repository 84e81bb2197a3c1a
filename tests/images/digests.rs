//! Files of digests, and the entry in docs/images.md that uses every key of a download.

use virtlab::images::{Pin, Sha256};

use crate::nginx::Nginx;
use crate::signer::Signer;
use crate::support::{bytes, documented, mine, printer, store};

#[test]
fn the_documented_example_is_fetched() {
    let (nginx, signer) = (Nginx::start(), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let kernel = bytes(20_000, 1);
    let digest = Sha256::of(&kernel);
    nginx.put("key.asc", &signer.public_key());
    nginx.put("stable/version.txt", b"NAME=x\nVERSION_ID=1.2\n");
    nginx.put("stable/1.2/boot/vmlinuz", &kernel);
    nginx.put("stable/1.2/boot/vmlinuz.sig", &signer.sign(&kernel));
    nginx.put("stable/1.2/SHA256SUMS", format!("{digest}  boot/vmlinuz\n").as_bytes());
    let mut text = documented("[source.urls]");
    for (from, to) in [
        ("https://images.example.org", nginx.http().as_str()),
        ("F88CFEDEFF29A5B4D9523864E25D9AED0593B34A", &signer.fingerprint),
        ("\"…\"", &format!("\"{digest}\"")),
    ] {
        assert!(text.contains(from), "docs/images.md no longer has {from}");
        text = text.replace(from, to);
    }
    let spec = mine(folder.path(), &text);
    let image = store(folder.path()).pull(&spec, &Pin::default(), &printer()).unwrap();
    assert_eq!(image.reference, "mine@1.2");
    let by = format!(
        "sha256 of the image's entry, sha256 of {}/stable/1.2/SHA256SUMS, signature of {}",
        nginx.http(),
        signer.fingerprint
    );
    assert_eq!(image.files[0].verified_by, by);
}

#[test]
fn a_digest_is_looked_for_under_the_name_that_the_version_gives_the_file() {
    let nginx = Nginx::start();
    let kernel = bytes(9000, 2);
    nginx.put("version.json", br#"{"tag": "v7"}"#);
    nginx.put("files/boot/vmlinuz-v7", &kernel);
    let digest = Sha256::of(&kernel);
    for (place, listed) in [
        ("SHA256SUMS", "files/boot/vmlinuz-v7"),
        ("files/SHA256SUMS", "./boot/vmlinuz-v7"),
        ("files/boot/SHA256SUMS", "vmlinuz-v7"),
        ("elsewhere/SHA256SUMS", "vmlinuz-v7"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        nginx.put(place, format!("{digest}  {listed}\n").as_bytes());
        let source = format!(
            "[source.urls]\nbase = \"{base}\"\n\
             latest = {{ url = \"{base}/version.json\", pointer = \"/tag\" }}\n\
             [[file]]\nrole = \"kernel\"\nname = \"vmlinuz\"\n\
             path = \"files/boot/vmlinuz-{{{{ version }}}}\"\ndigests = \"{place}\"\n",
            base = nginx.http()
        );
        let spec = mine(folder.path(), &source);
        let image = store(folder.path()).pull(&spec, &Pin::default(), &printer()).unwrap();
        assert_eq!(image.files[0].sha256, digest, "{place}");
    }
}
