//! Fedora `CoreOS` and Talos against small trees laid out as theirs, and what TLS is for.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use virtlab::images::{ImageSpec, LockFile, Pin, Sha256};

use crate::faulty::{Faulty, answer};
use crate::nginx::Nginx;
use crate::support::{
    bytes, fetcher, is_rerun, printer, redirected, remove, rerun, store, variable,
};

const ROOT: &str = "https://builds.coreos.fedoraproject.org";

/// Puts a version there and describes it in the stream's metadata, as the real one does.
fn publish(nginx: &Nginx, base: &str, version: &str, seed: u32) {
    let prefix = format!("prod/streams/stable/builds/{version}/x86_64");
    let artifact = |name: &str, length: usize| {
        let path = format!("{prefix}/fedora-coreos-{version}-live-{name}");
        let file = bytes(length, seed);
        nginx.put(&path, &file);
        let location = format!("{base}/{path}");
        json!({
            "location": location,
            "signature": format!("{location}.sig"),
            "sha256": Sha256::of(&file).to_string(),
        })
    };
    let stream = json!({
        "stream": "stable",
        "architectures": { "x86_64": { "artifacts": { "metal": {
            "release": version,
            "formats": { "pxe": {
                "kernel": artifact("kernel.x86_64", 30_000),
                "initramfs": artifact("initramfs.x86_64.img", 80_000),
                "rootfs": artifact("rootfs.x86_64.img", 700_000),
            } }
        } } } }
    });
    nginx.put("streams/stable.json", stream.to_string().as_bytes());
}

fn fedora(folder: &Path, base: &str) -> ImageSpec {
    redirected(folder, "fedora-coreos", &[(ROOT, base)])
}

#[test]
fn the_stream_says_where_the_files_are_and_what_they_must_be() {
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    publish(&nginx, &nginx.http(), "43.20261101.3.0", 1);
    let (store, spec) = (store(folder.path()), fedora(folder.path(), &nginx.http()));
    let image = store.pull(&spec, &Pin::default(), &printer()).unwrap();
    assert_eq!(image.reference, "fedora-coreos@43.20261101.3.0");
    let files: Vec<_> = image.files.iter().map(|file| (file.name.as_str(), file.size)).collect();
    assert_eq!(files, [("kernel", 30_000), ("initramfs.img", 80_000), ("rootfs.img", 700_000)]);
    let by = format!("sha256 of {}/streams/stable.json", nginx.http());
    assert!(image.files.iter().all(|file| file.verified_by == by));
}

#[test]
fn a_file_that_is_not_what_the_stream_says_is_refused() {
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    publish(&nginx, &nginx.http(), "43.1", 1);
    let path = "prod/streams/stable/builds/43.1/x86_64/fedora-coreos-43.1-live-rootfs.x86_64.img";
    nginx.put(path, &bytes(700_000, 2));
    let (store, spec) = (store(folder.path()), fedora(folder.path(), &nginx.http()));
    let error = format!("{:#}", store.pull(&spec, &Pin::default(), &printer()).unwrap_err());
    let (expected, found) = (Sha256::of(&bytes(700_000, 1)), Sha256::of(&bytes(700_000, 2)));
    let base = nginx.http();
    assert_eq!(
        error,
        format!(
            "image `fedora-coreos`: verifying {base}/{path}: `rootfs.img` is not what \
             {base}/streams/stable.json says: expected sha256 {expected}, found {found} (700000 bytes)"
        )
    );
    assert_eq!(store.records().unwrap(), []);
    assert!(!folder.path().join("cache").join(found.to_string()).exists());
    // The good ones are kept: only the bad one is fetched again.
    nginx.put(path, &bytes(700_000, 1));
    let before = nginx.requests().len();
    store.pull(&spec, &Pin::default(), &printer()).unwrap();
    let rootfs = nginx.requests()[before..].iter().filter(|line| line.contains("rootfs")).count();
    assert_eq!(rootfs, 1);
}

#[test]
fn a_locked_version_is_had_after_the_stream_has_moved_on() {
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    publish(&nginx, &nginx.http(), "43.1", 1);
    let (store, spec) = (store(folder.path()), fedora(folder.path(), &nginx.http()));
    let image = store.pull(&spec, &Pin::default(), &printer()).unwrap();
    let path = folder.path().join("virtlab.lock");
    let mut lock = LockFile::default();
    lock.set("fedora-coreos", image.pin());
    lock.save(&path).unwrap();
    publish(&nginx, &nginx.http(), "43.2", 2);
    remove(&store, "fedora-coreos");

    let wanted = Pin { version: Some("43.1".to_owned()), ..Pin::default() };
    assert_eq!(
        format!("{:#}", store.pull(&spec, &wanted, &printer()).unwrap_err()),
        format!(
            "image `fedora-coreos`: {}/streams/stable.json describes only the newest version, 43.2, \
             not 43.1: an older one needs the lock file that was made with it",
            nginx.http()
        )
    );
    let pin = LockFile::load(&path).unwrap().pin("fedora-coreos");
    let again = store.pull(&spec, &pin, &printer()).unwrap();
    assert_eq!((again.reference, again.digest), (image.reference, image.digest));
}

#[test]
fn metadata_that_makes_no_sense_is_refused() {
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    let (store, spec) = (store(folder.path()), fedora(folder.path(), &nginx.http()));
    let url = format!("{}/streams/stable.json", nginx.http());
    let pointer = "/architectures/x86_64/artifacts/metal/release";
    let up = json!({"architectures": {"x86_64": {"artifacts": {"metal": {
        "release": "../../etc", "formats": {"pxe": {
            "kernel": {"location": "x", "sha256": "0".repeat(64)},
            "initramfs": {"location": "x", "sha256": "0".repeat(64)},
            "rootfs": {"location": "x", "sha256": "0".repeat(64)},
    }}}}}}});
    for (text, expected) in [
        ("{}".to_owned(), format!("{url} has no text at `{pointer}`")),
        ("<html>".to_owned(), format!("reading {url}: expected value at line 1 column 1")),
        (up.to_string(), "the version is said to be \"../../etc\", which is not one".to_owned()),
    ] {
        nginx.put("streams/stable.json", text.as_bytes());
        let error = store.pull(&spec, &Pin::default(), &printer()).unwrap_err();
        assert_eq!(format!("{error:#}"), format!("image `fedora-coreos`: {expected}"));
    }
}

#[test]
fn talos_is_verified_by_its_file_of_digests() {
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    let base = nginx.http();
    let spec = redirected(
        folder.path(),
        "talos",
        &[("https://github.com", &base), ("https://api.github.com/repos", &format!("{base}/api"))],
    );
    let place = "siderolabs/talos/releases/download/v1.11.5";
    nginx.put("api/siderolabs/talos/releases/latest", br#"{"tag_name": "v1.11.5"}"#);
    let (kernel, initrd) = (bytes(9000, 1), bytes(60_000, 1));
    nginx.put(&format!("{place}/vmlinuz-amd64"), &kernel);
    nginx.put(&format!("{place}/initramfs-amd64.xz"), &initrd);
    let digests = |kernel: &[u8]| {
        format!(
            "{}  vmlinuz-amd64\n{}  vmlinuz-arm64\n{}  initramfs-amd64.xz\n",
            Sha256::of(kernel),
            Sha256::of(b"other"),
            Sha256::of(&initrd)
        )
    };
    nginx.put(&format!("{place}/sha256sum.txt"), digests(b"wrong").as_bytes());
    let store = store(folder.path());
    let error = store.pull(&spec, &Pin::default(), &printer()).unwrap_err();
    let expected =
        format!("`vmlinuz-amd64` is not what {base}/{place}/sha256sum.txt says: expected");
    assert!(format!("{error:#}").contains(&expected), "{error:#}");
    nginx.put(&format!("{place}/sha256sum.txt"), digests(&kernel).as_bytes());
    let image = store.pull(&spec, &Pin::default(), &printer()).unwrap();
    assert_eq!(image.reference, "talos@v1.11.5");
}

/// The inner tests need another environment, and so another process.
fn elsewhere(nginx: &Nginx, folder: &TempDir) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("BASE", nginx.https()).env("FOLDER", folder.path());
    command
}

#[test]
fn an_authority_of_ones_own_is_trusted_if_the_environment_says_so() {
    if is_rerun() {
        return inside_with_a_trusted_authority();
    }
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    publish(&nginx, &nginx.https(), "43.1", 1);
    let test = "streams::an_authority_of_ones_own_is_trusted_if_the_environment_says_so";
    let ca = nginx.authority();
    rerun(test, elsewhere(&nginx, &folder).env("SSL_CERT_FILE", ca));
    let all = nginx.requests();
    assert_eq!(all.iter().filter(|line| line.ends_with(" 200")).count(), 4, "{all:?}");
}

fn inside_with_a_trusted_authority() {
    let (base, folder) = (variable("BASE"), PathBuf::from(variable("FOLDER")));
    let image = store(&folder).pull(&fedora(&folder, &base), &Pin::default(), &printer()).unwrap();
    assert_eq!(image.reference, "fedora-coreos@43.1");
    // And what came over TLS does not go on without it.
    let error = fetcher().document(&format!("{base}/downgrade/x")).unwrap_err();
    assert!(format!("{error:#}").ends_with("redirected from https to http"), "{error:#}");
}

#[test]
fn a_stranger_s_certificate_is_refused() {
    let nginx = Nginx::start();
    nginx.put("plain", b"text");
    let error =
        format!("{:#}", fetcher().document(&format!("{}/plain", nginx.https())).unwrap_err());
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert_eq!(nginx.requests(), [""; 0]);
    assert_eq!(fetcher().document(&format!("{}/plain", nginx.http())).unwrap(), b"text");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    if is_rerun() {
        return inside_with_a_proxy();
    }
    let (nginx, folder) = (Nginx::start(), tempfile::tempdir().unwrap());
    let proxy = Faulty::start(vec![answer("200 OK", &["Content-Length: 5"], b"proxy")]);
    let test = "streams::a_proxy_of_the_environment_is_used";
    rerun(test, elsewhere(&nginx, &folder).env("http_proxy", proxy.url("")));
    assert!(proxy.requests()[0].starts_with("get http://images.example/vmlinuz http/1.1"));
}

fn inside_with_a_proxy() {
    variable("BASE");
    assert_eq!(fetcher().document("http://images.example/vmlinuz").unwrap(), b"proxy");
}

#[test]
fn nginx_resumes_and_refuses_ranges_as_it_is_told() {
    let nginx = Nginx::start();
    let file = bytes(200_000, 3);
    nginx.put("big", &file);
    let length = format!("Content-Length: {}", file.len());
    for (path, status) in [("big", 206), ("no-ranges/big", 200)] {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("big.part");
        // The first half comes from elsewhere, under the address of nginx's file.
        std::fs::write(&part, &file[..90_000]).unwrap();
        let url = format!("{}/{path}", nginx.http());
        let origin = json!({ "url": url, "validator": null });
        std::fs::write(folder.path().join("big.part.origin"), origin.to_string()).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let bar = indicatif::ProgressBar::hidden();
        let fetched = fetcher().download(&url, &part, &bar, &stop).unwrap();
        assert_eq!(fetched.sha256, Sha256::of(&file));
        assert_eq!(bar.length(), Some(file.len() as u64), "{length}");
        let last = nginx.requests().pop().unwrap();
        assert_eq!(last, format!("GET /{path} {status}"));
    }
}
