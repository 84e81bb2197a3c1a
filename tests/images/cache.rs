//! What is in the cache, which of it is the newest, and what may go, by Flatcar's entry.

use std::sync::Barrier;

use virtlab::images::store::Check;
use virtlab::images::{InUse, Pin, Sha256};

use crate::flatcar::{Flatcar, KERNEL, version};
use crate::signer::Signer;
use crate::support::{bytes, printer, remove, store};

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
