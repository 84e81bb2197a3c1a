//! Flatcar's entry against a small tree laid out as Flatcar's, signed with a test key.

use virtlab::images::verify::{Signature, check_signature};
use virtlab::images::{LockFile, Pin, Sha256};

use crate::flatcar::{Flatcar, INITRD, KERNEL};
use crate::signer::{Signer, packets};
use crate::support::{bytes, remove, store};

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
    let mut lock = LockFile::default();
    lock.set("flatcar", image.pin());
    lock.save(&path).unwrap();
    flatcar.publish("stable", "4230.2.2", 2);
    remove(&store(flatcar.folder.path()), "flatcar");

    let pin = LockFile::load(&path).unwrap().pin("flatcar");
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
