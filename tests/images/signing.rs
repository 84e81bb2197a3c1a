//! Flatcar's entry against a small tree laid out as Flatcar's, signed with a test key.

use std::path::Path;
use std::sync::Barrier;

use tempfile::TempDir;
use virtlab::images::Image;
use virtlab::images::ImageSpec;
use virtlab::images::InUse;
use virtlab::images::Lock;
use virtlab::images::Pin;
use virtlab::images::Sha256;
use virtlab::images::store::Check;
use virtlab::images::verify::Signature;
use virtlab::images::verify::check_signature;

use crate::nginx::Nginx;
use crate::signer::Signer;
use crate::signer::packets;
use crate::support::bytes;
use crate::support::printer;
use crate::support::redirected;
use crate::support::remove;
use crate::support::store;

const KERNEL: &str = "flatcar_production_pxe.vmlinuz";
const INITRD: &str = "flatcar_production_pxe_image.cpio.gz";
const PINNED: &str = "F88CFEDEFF29A5B4D9523864E25D9AED0593B34A";

struct Flatcar {
    nginx: Nginx,
    signer: Signer,
    folder: TempDir,
}

impl Flatcar {
    fn new(signer: Signer) -> Self {
        let flatcar = Self { nginx: Nginx::start(), signer, folder: tempfile::tempdir().unwrap() };
        flatcar.nginx.put("key.asc", &flatcar.signer.public_key());
        flatcar.publish("stable", "4230.2.1", 1);
        flatcar
    }

    /// Puts a version there, and makes it the current one.
    fn publish(&self, channel: &str, version: &str, seed: u32) {
        for (name, length) in [(KERNEL, 40_000), (INITRD, 900_000)] {
            let file = bytes(length, seed);
            let path = format!("{channel}/amd64-usr/{version}/{name}");
            self.nginx.put(&path, &file);
            self.nginx.put(&format!("{path}.sig"), &self.signer.sign(&file));
        }
        let text = format!(
            "FLATCAR_BUILD=4230\nFLATCAR_VERSION={version}\nFLATCAR_VERSION_ID={version}\n\
             FLATCAR_BUILD_ID=\"2026-01-01-0000\"\n"
        );
        self.nginx.put(&format!("{channel}/amd64-usr/current/version.txt"), text.as_bytes());
    }

    fn spec(&self) -> ImageSpec {
        let base = format!("{}/{{{{ channel }}}}", self.nginx.http());
        let key = format!("{}/key.asc", self.nginx.http());
        redirected(
            self.folder.path(),
            "flatcar",
            &[
                ("https://{{ channel }}.release.flatcar-linux.net", &base),
                (
                    "https://www.flatcar.org/security/image-signing-key/\
                     Flatcar_Image_Signing_Key.asc",
                    &key,
                ),
                (PINNED, &self.signer.fingerprint),
            ],
        )
    }

    fn pull(&self, pin: &Pin) -> Result<Image, String> {
        let store = store(self.folder.path());
        store.pull(&self.spec(), pin, &printer()).map_err(|error| format!("{error:#}"))
    }

    /// Nothing of a refused image may be left to be taken for a good one.
    #[track_caller]
    fn has_nothing(&self) {
        let store = store(self.folder.path());
        assert_eq!(store.records().unwrap(), []);
        let left: Vec<String> = walk(&self.folder.path().join("cache"))
            .into_iter()
            .filter(|path| !path.contains("/locks/"))
            .collect();
        let bad = |path: &String| path.contains(KERNEL);
        assert!(!left.iter().any(bad), "{left:?}");
    }
}

fn walk(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            paths.extend(walk(&path));
        } else {
            paths.push(path.display().to_string());
        }
    }
    paths
}

fn version(version: &str) -> Pin {
    Pin { version: Some(version.to_owned()), ..Pin::default() }
}

#[test]
fn a_signed_image_is_fetched_verified_and_kept() {
    let flatcar = Flatcar::new(Signer::new());
    let image = flatcar.pull(&Pin::default()).unwrap();
    assert_eq!(image.reference, "flatcar@4230.2.1");
    assert_eq!(image.channel.as_deref(), Some("stable"));
    for (file, length) in image.files.iter().zip([40_000, 900_000]) {
        let expected = bytes(length, 1);
        assert_eq!(std::fs::read(&file.path).unwrap(), expected);
        assert_eq!(file.sha256, Sha256::of(&expected));
        assert_eq!(file.verified_by, format!("signature of {}", flatcar.signer.fingerprint));
        let place = format!("cache/{}/{}", file.sha256, file.name);
        assert_eq!(file.path, flatcar.folder.path().join(place));
        assert!(std::fs::metadata(&file.path).unwrap().permissions().readonly());
    }
    // From now on it needs no network, and a second pull fetches only the version's name.
    let before = flatcar.nginx.requests().len();
    let store = store(flatcar.folder.path());
    let again = store.ensure(&flatcar.spec(), &Pin::default(), &printer()).unwrap();
    assert_eq!((again, flatcar.nginx.requests().len()), (image.clone(), before));
    assert_eq!(flatcar.pull(&Pin::default()).unwrap(), image);
    assert_eq!(
        flatcar.nginx.requests()[before..],
        ["GET /stable/amd64-usr/current/version.txt 200"]
    );
}

#[test]
fn channels_and_versions_are_told_apart() {
    let flatcar = Flatcar::new(Signer::new());
    flatcar.pull(&Pin::default()).unwrap();
    flatcar.publish("stable", "4230.2.2", 2);
    flatcar.publish("beta", "4300.1.0", 3);
    let store = store(flatcar.folder.path());
    let find = |pin: &Pin| store.find(&flatcar.spec(), pin).unwrap().map(|image| image.reference);
    let beta = Pin { channel: Some("beta".to_owned()), ..Pin::default() };
    assert_eq!(find(&beta), None);
    assert_eq!(find(&Pin::default()).as_deref(), Some("flatcar@4230.2.1"));
    assert_eq!(flatcar.pull(&beta).unwrap().reference, "flatcar@4300.1.0");
    assert_eq!(flatcar.pull(&Pin::default()).unwrap().reference, "flatcar@4230.2.2");
    assert_eq!(find(&Pin::default()).as_deref(), Some("flatcar@4230.2.2"));
    assert_eq!(find(&version("4230.2.1")).as_deref(), Some("flatcar@4230.2.1"));

    let nightly = Pin { channel: Some("nightly".to_owned()), ..Pin::default() };
    assert_eq!(
        flatcar.pull(&nightly).unwrap_err(),
        "image `flatcar`: it has no channel `nightly`; there are: stable, beta, alpha, lts"
    );
    let error = flatcar.pull(&version("1.2.3")).unwrap_err();
    assert!(error.contains("/1.2.3/") && error.ends_with("404 Not Found"), "{error}");

    // The version that a newer one has replaced goes, the one that a lab uses stays.
    let record = |reference: &str| {
        let mut records = store.records().unwrap().into_iter();
        records.find(|record| record.reference == reference).unwrap()
    };
    let old = record("flatcar@4230.2.1");
    let in_use: InUse = [(old.digest().to_string(), "demo".to_owned())].into_iter().collect();
    assert_eq!(store.prune(&in_use, &printer()).unwrap().references, [""; 0]);
    let both = vec![record("flatcar@4230.2.2"), old];
    assert_eq!(
        store.remove(both, &in_use, &printer()).unwrap_err().to_string(),
        "image `flatcar@4230.2.1` is used by lab `demo`"
    );
    let pruned = store.prune(&InUse::default(), &printer()).unwrap();
    assert_eq!((pruned.references, pruned.bytes), (vec!["flatcar@4230.2.1".to_owned()], 940_000));
    let removed = remove(&store, "flatcar");
    assert_eq!(removed.references, ["flatcar@4230.2.2", "flatcar@4300.1.0"]);
    flatcar.has_nothing();
}

#[test]
fn an_older_version_that_is_asked_for_does_not_take_the_place_of_the_newest() {
    let flatcar = Flatcar::new(Signer::new());
    flatcar.pull(&Pin::default()).unwrap();
    flatcar.publish("stable", "4230.2.2", 2);
    flatcar.pull(&Pin::default()).unwrap();
    let store = store(flatcar.folder.path());
    let newest = || store.find(&flatcar.spec(), &Pin::default()).unwrap().unwrap().reference;
    // It is here already, it was removed, and it was never here.
    flatcar.pull(&version("4230.2.1")).unwrap();
    assert_eq!(newest(), "flatcar@4230.2.2");
    remove(&store, "flatcar@4230.2.1");
    flatcar.pull(&version("4230.2.1")).unwrap();
    assert_eq!(newest(), "flatcar@4230.2.2");
    flatcar.pull(&version("4230.2.2")).unwrap();
    assert_eq!(
        store.prune(&InUse::default(), &printer()).unwrap().references,
        ["flatcar@4230.2.1"]
    );
}

#[test]
fn a_file_that_is_not_the_signed_one_is_refused_and_thrown_away() {
    let flatcar = Flatcar::new(Signer::new());
    let path = format!("stable/amd64-usr/4230.2.1/{KERNEL}");
    let good = bytes(40_000, 1);
    let mut bad = good.clone();
    bad[20_000] ^= 1;
    flatcar.nginx.put(&path, &bad);
    let error = flatcar.pull(&Pin::default()).unwrap_err();
    let expected = format!(
        "image `flatcar`: verifying {}/{path}: `{KERNEL}`: the signature does not match the file; \
         expected one of key {}",
        flatcar.nginx.http(),
        flatcar.signer.fingerprint
    );
    assert_eq!(error, expected);
    flatcar.has_nothing();
    // And nothing stands in the way of a good one.
    flatcar.nginx.put(&path, &good);
    flatcar.pull(&Pin::default()).unwrap();
}

#[test]
fn a_bad_new_version_leaves_the_good_old_one_alone() {
    let flatcar = Flatcar::new(Signer::new());
    let old = flatcar.pull(&Pin::default()).unwrap();
    flatcar.publish("stable", "4230.2.2", 2);
    flatcar.nginx.put(&format!("stable/amd64-usr/4230.2.2/{INITRD}.sig"), b"not a signature");
    let error = flatcar.pull(&Pin::default()).unwrap_err();
    assert!(error.contains("the signature file holds no signature"), "{error}");
    let store = store(flatcar.folder.path());
    assert_eq!(store.find(&flatcar.spec(), &Pin::default()).unwrap(), Some(old));
}

#[test]
fn a_missing_signature_is_noticed_before_the_file_is_fetched() {
    let flatcar = Flatcar::new(Signer::new());
    flatcar.nginx.remove(&format!("stable/amd64-usr/4230.2.1/{INITRD}.sig"));
    let error = flatcar.pull(&Pin::default()).unwrap_err();
    assert!(error.ends_with(".sig: the server says 404 Not Found"), "{error}");
    let asked = flatcar.nginx.requests();
    assert!(!asked.iter().any(|request| request.contains(&format!("{INITRD} "))), "{asked:?}");
    assert_eq!(store(flatcar.folder.path()).records().unwrap(), []);
}

#[test]
fn a_key_that_is_not_the_pinned_one_is_refused() {
    let flatcar = Flatcar::new(Signer::new());
    let stranger = Signer::new();
    flatcar.nginx.put("key.asc", &stranger.public_key());
    assert!(flatcar.pull(&Pin::default()).unwrap_err().contains(&format!(
        "the public key is not the pinned one: expected fingerprint {}, found {}",
        flatcar.signer.fingerprint, stranger.fingerprint
    )));
    // Nor may a stranger's key ride along with the pinned one.
    let both = [flatcar.signer.binary_key(), stranger.binary_key()].concat();
    flatcar.nginx.put("key.asc", &both);
    let error = flatcar.pull(&Pin::default()).unwrap_err();
    assert!(error.contains("the public key is not the pinned one"), "{error}");
    let asked = flatcar.nginx.requests();
    assert!(!asked.iter().any(|request| request.contains(KERNEL)), "{asked:?}");
    flatcar.has_nothing();
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let flatcar = Flatcar::new(Signer::new());
    let signature = Signer::new().sign(&bytes(40_000, 1));
    flatcar.nginx.put(&format!("stable/amd64-usr/4230.2.1/{KERNEL}.sig"), &signature);
    let error = flatcar.pull(&Pin::default()).unwrap_err();
    assert!(error.contains("the signature is by another key"), "{error}");
    flatcar.has_nothing();
}

#[test]
fn a_sub_key_that_the_primary_key_never_bound_is_refused() {
    // The key comes over the network: somebody in between could append a sub-key of their own, with
    // the binding signature of their own primary key.
    let flatcar = Flatcar::new(Signer::new());
    let stranger = Signer::new();
    let foreign = stranger.binary_key();
    let sub_key = packets(&foreign).into_iter().skip_while(|(tag, _)| *tag != 14);
    let mut key = flatcar.signer.binary_key();
    sub_key.for_each(|(_, packet)| key.extend_from_slice(packet));
    flatcar.nginx.put("key.asc", &key);
    let image = flatcar.pull(&Pin::default()).unwrap();
    remove(&store(flatcar.folder.path()), &image.reference);

    let signature = stranger.sign(&bytes(40_000, 1));
    flatcar.nginx.put(&format!("stable/amd64-usr/4230.2.1/{KERNEL}.sig"), &signature);
    let error = flatcar.pull(&Pin::default()).unwrap_err();
    assert!(error.contains("the signature is by another key"), "{error}");
    flatcar.has_nothing();
}

#[test]
fn an_old_version_stays_good_after_its_signing_key_has_expired() {
    let flatcar = Flatcar::new(Signer::of_the_past("20200101T000000"));
    let image = flatcar.pull(&Pin::default()).unwrap();
    let kernel = bytes(40_000, 1);
    let (signature, key) = (flatcar.signer.sign(&kernel), flatcar.signer.public_key());
    let fingerprint = &flatcar.signer.fingerprint;
    let judged = check_signature(&image.files[0].path, &signature, &key, fingerprint).unwrap();
    assert_eq!(judged, Signature { fingerprint: fingerprint.clone(), key_expired: true });
}

#[test]
fn a_lab_is_repeated_from_its_lock_file() {
    let flatcar = Flatcar::new(Signer::new());
    let path = flatcar.folder.path().join("virtlab.lock");
    let image = flatcar.pull(&Pin::default()).unwrap();
    let mut lock = Lock::default();
    lock.set("flatcar", image.pin());
    lock.save(&path).unwrap();
    flatcar.publish("stable", "4230.2.2", 2);
    remove(&store(flatcar.folder.path()), "flatcar");

    let pin = Lock::load(&path).unwrap().pin("flatcar");
    let again = flatcar.pull(&pin).unwrap();
    assert_eq!((&again.reference, again.digest), (&image.reference, image.digest));
    let by = format!("sha256 of the lock file, signature of {}", flatcar.signer.fingerprint);
    assert_eq!(again.files[0].verified_by, by);
    remove(&store(flatcar.folder.path()), "flatcar");

    // The same version with other contents, well signed: not what was locked.
    let other = bytes(40_000, 7);
    let path = format!("stable/amd64-usr/4230.2.1/{KERNEL}");
    flatcar.nginx.put(&path, &other);
    flatcar.nginx.put(&format!("{path}.sig"), &flatcar.signer.sign(&other));
    let error = flatcar.pull(&pin).unwrap_err();
    let (expected, found) = (Sha256::of(&bytes(40_000, 1)), Sha256::of(&other));
    assert_eq!(
        error,
        format!(
            "image `flatcar`: verifying {}/{path}: `{KERNEL}` is not what the lock file says: \
             expected sha256 {expected}, found {found} (40000 bytes)",
            flatcar.nginx.http()
        )
    );
    flatcar.has_nothing();
}

#[test]
fn the_files_of_a_record_that_cannot_be_read_stay() {
    let flatcar = Flatcar::new(Signer::new());
    let old = flatcar.pull(&Pin::default()).unwrap();
    flatcar.publish("stable", "4230.2.2", 2);
    let new = flatcar.pull(&Pin::default()).unwrap();
    let store = store(flatcar.folder.path());
    // As a later virtlab may write it, and as a full disk may leave it.
    let record = std::fs::read_dir(flatcar.folder.path().join("cache/index"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .find(|path| path.display().to_string().contains("4230.2.1"))
        .unwrap();
    let text = std::fs::read_to_string(&record).unwrap().replace("\"reference\"", "\"ref\"");
    for text in [text.as_str(), ""] {
        std::fs::write(&record, text).unwrap();
        store.prune(&InUse::default(), &printer()).unwrap();
        assert!(old.files.iter().chain(&new.files).all(|file| file.path.exists()), "{text}");
    }
    remove(&store, "flatcar");
    assert!(old.files.iter().all(|file| file.path.exists()));
    assert!(!new.files.iter().any(|file| file.path.exists()));
}

#[test]
fn of_two_runs_at_once_one_fetches_and_the_other_waits() {
    let flatcar = Flatcar::new(Signer::new());
    let start = Barrier::new(4);
    let spec = flatcar.spec();
    let pull = || {
        let store = store(flatcar.folder.path());
        start.wait();
        store.pull(&spec, &Pin::default(), &printer()).unwrap().reference
    };
    let references: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|_| scope.spawn(pull)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(references, ["flatcar@4230.2.1"; 4]);
    let kernel = format!("GET /stable/amd64-usr/4230.2.1/{KERNEL} 200");
    let fetched = flatcar.nginx.requests().iter().filter(|request| **request == kernel).count();
    assert_eq!(fetched, 1);
}

#[test]
fn a_damaged_file_of_the_cache_is_noticed_and_fetched_again() {
    let flatcar = Flatcar::new(Signer::new());
    let image = flatcar.pull(&Pin::default()).unwrap();
    let store = store(flatcar.folder.path());
    let record = store.records().unwrap().remove(0);
    assert!(store.verify(&record, &printer()).unwrap().iter().all(Check::is_good));

    let kernel = &image.files[0].path;
    let damage = || {
        std::fs::remove_file(kernel).unwrap();
        std::fs::write(kernel, bytes(40_000, 99)).unwrap();
    };
    damage();
    assert_eq!(store.find(&flatcar.spec(), &Pin::default()).unwrap(), None);
    assert_eq!(store.ensure(&flatcar.spec(), &Pin::default(), &printer()).unwrap(), image);
    assert_eq!(std::fs::read(kernel).unwrap(), bytes(40_000, 1));

    damage();
    let checks = store.verify(&record, &printer()).unwrap();
    assert_eq!(checks[0].found, Some(Sha256::of(&bytes(40_000, 99))));
    assert!(!checks[0].is_good() && checks[1].is_good());
    assert!(!kernel.exists(), "a bad file is removed by `verify`");
    assert_eq!(store.verify(&record, &printer()).unwrap()[0].found, None);
}
