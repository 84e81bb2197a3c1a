//! Images that are built here, and files that the user keeps.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use virtlab::images::{Catalogue, ImageSpec, InUse, Pin, Sha256};

use crate::support::{mine, printer, remove, store};

const ENTRY: &str = r#"source.recipe.name = "recipe"
[[file]]
role = "kernel"
name = "vmlinuz"
[[file]]
role = "initrd"
name = "initrd.img"
"#;

fn recipe(folder: &Path, script: &str) -> ImageSpec {
    fs::create_dir_all(folder.join("recipe")).unwrap();
    fs::write(folder.join("recipe/build.sh"), format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    fs::write(folder.join("recipe/init"), "the init\n").unwrap();
    mine(folder, ENTRY)
}

#[test]
fn an_entry_that_asks_for_other_files_of_the_same_recipe_is_another_image() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let spec = recipe(
        folder.path(),
        "for name in vmlinuz initrd.img more.img; do echo $name >$1/$name; done",
    );
    let first = store.ensure(&spec, &Pin::default(), &printer()).unwrap();
    let more = format!("{ENTRY}[[file]]\nrole = \"initrd\"\nname = \"more.img\"\n");
    let spec = mine(folder.path(), &more);
    assert_eq!(store.find(&spec, &Pin::default()).unwrap(), None);
    let second = store.ensure(&spec, &Pin::default(), &printer()).unwrap();
    assert_eq!(first.files.len() + 1, second.files.len());
    assert_ne!(first.digest, second.digest);
}

#[test]
fn a_recipe_is_run_once_and_again_when_it_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    let script = |kernel: &str| {
        format!(
            "echo run >> {}\nprintf {kernel} > \"$1/vmlinuz\"\ncp init \"$1/initrd.img\"",
            count.display()
        )
    };
    let store = store(folder.path());
    let spec = recipe(folder.path(), &script("one"));
    assert_eq!(store.find(&spec, &Pin::default()).unwrap(), None);
    let first = store.ensure(&spec, &Pin::default(), &printer()).unwrap();
    assert_eq!(store.ensure(&spec, &Pin::default(), &printer()).unwrap(), first);
    assert_eq!(fs::read(&count).unwrap(), b"run\n");
    assert_eq!(fs::read(&first.files[0].path).unwrap(), b"one");
    assert_eq!(fs::read(&first.files[1].path).unwrap(), b"the init\n");

    let changed = recipe(folder.path(), &script("two"));
    let second = store.ensure(&changed, &Pin::default(), &printer()).unwrap();
    assert_ne!(second.reference, first.reference);
    assert_eq!(fs::read(&second.files[0].path).unwrap(), b"two");
    store.rebuild(&changed, &printer()).unwrap();
    assert_eq!(fs::read(&count).unwrap(), b"run\nrun\nrun\n");

    // The lock file holds the recipe, since two builds of it differ in time stamps.
    let version = |image: &virtlab::images::Image| image.version.clone().unwrap();
    let error = format!("{:#}", store.find(&changed, &first.pin()).unwrap_err());
    assert_eq!(
        error,
        format!(
            "image `mine`: it is built by the recipe {} here, not by {}",
            version(&second),
            version(&first)
        )
    );
}

#[test]
fn building_anew_leaves_the_files_that_a_lab_boots_from() {
    let folder = tempfile::tempdir().unwrap();
    let spec = recipe(folder.path(), "date +%N > \"$1/vmlinuz\"\ncp init \"$1/initrd.img\"");
    let store = store(folder.path());
    let old = store.ensure(&spec, &Pin::default(), &printer()).unwrap();
    let new = store.rebuild(&spec, &printer()).unwrap();
    assert_eq!(new.reference, old.reference);
    assert_ne!(new.digest, old.digest);
    assert_eq!(store.find(&spec, &Pin::default()).unwrap(), Some(new));
    let of_lab = || store.with_digest(&spec, &old.digest.to_string()).unwrap();
    assert_eq!(of_lab(), Some(old.clone()));
    let in_use = [(old.digest.to_string(), "demo".to_owned())].into_iter().collect();
    store.prune(&in_use, &printer()).unwrap();
    assert_eq!(of_lab(), Some(old.clone()));
    store.prune(&InUse::default(), &printer()).unwrap();
    assert_eq!(of_lab(), None);
}

#[test]
fn a_file_that_was_only_touched_is_read_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let spec = recipe(folder.path(), "printf one > \"$1/vmlinuz\"\ncp init \"$1/initrd.img\"");
    let store = store(folder.path());
    let image = store.ensure(&spec, &Pin::default(), &printer()).unwrap();
    let kernel = &image.files[0].path;
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(kernel).unwrap().set_modified(time).unwrap();
    assert_eq!(store.find(&spec, &Pin::default()).unwrap(), Some(image));
    let known = store.records().unwrap()[0].files[0].mtime;
    assert_eq!(known, 1_000_000_000_000_000_000);
}

#[test]
fn a_recipe_that_fails_shows_the_end_of_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let spec = recipe(folder.path(), "seq 1 40\necho 'E: no \u{1b}[2Jspace' >&2\nexit 3");
    let error = store(folder.path()).ensure(&spec, &Pin::default(), &printer()).unwrap_err();
    let log = folder.path().join("cache/partial/mine/build.log");
    let numbers: Vec<String> = (27..=40).map(|number| format!("\n  {number}")).collect();
    let numbers = numbers.concat();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "image `mine`: building by the recipe `recipe`: build.sh: exit status: 3; all of its output is \
             in {}{numbers}\n  E: no \\u{{1b}}[2Jspace",
            log.display()
        )
    );
    assert!(fs::read_to_string(log).unwrap().starts_with("1\n2\n"));
}

#[test]
fn a_recipe_that_forgets_a_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let spec = recipe(folder.path(), "echo hello > \"$1/vmlinuz\"");
    let store = store(folder.path());
    let error = store.ensure(&spec, &Pin::default(), &printer()).unwrap_err();
    let expected = "image `mine`: the recipe ended well, but made no `initrd.img`; ";
    assert!(format!("{error:#}").starts_with(expected), "{error:#}");
    assert_eq!(store.records().unwrap(), []);
}

#[test]
fn a_recipe_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let spec = mine(folder.path(), ENTRY);
    let error = store(folder.path()).find(&spec, &Pin::default()).unwrap_err();
    let error = format!("{error:#}");
    let script = folder.path().join("recipe/build.sh");
    assert_eq!(
        error,
        format!(
            "image `mine`: it is built by the recipe `recipe`: {} does not exist",
            script.display()
        )
    );
}

#[test]
fn kept_files_are_used_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("coreos");
    fs::create_dir(&kept).unwrap();
    let store = store(folder.path());
    let catalogue = Catalogue::new(&[]).unwrap();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::copy("images/coreos.toml", own.join("coreos.toml")).unwrap();
    for catalogue in [&catalogue, &Catalogue::new(&[own]).unwrap()] {
        let bare = catalogue.find("coreos").unwrap();
        assert_eq!(
            format!("{:#}", store.find(&bare, &Pin::default()).unwrap_err()),
            "image `coreos`: it needs the folder that holds its files: use `coreos:FOLDER`, or \
             `source.local.folder` in its entry"
        );
    }
    let spec = catalogue.find(&format!("coreos:{}", kept.display())).unwrap();
    let error = format!("{:#}", store.find(&spec, &Pin::default()).unwrap_err());
    let expected = format!(
        "image `coreos`: looking for {}: No such file or directory (os error 2)",
        kept.join("coreos_production_pxe.vmlinuz").display()
    );
    assert_eq!(error, expected);

    let kernel = kept.join("coreos_production_pxe.vmlinuz");
    fs::write(&kernel, "kernel").unwrap();
    fs::write(kept.join("coreos_production_pxe_image.cpio.gz"), "initrd").unwrap();
    let image = store.find(&spec, &Pin::default()).unwrap().unwrap();
    assert_eq!(image.files[0].path, kernel);
    assert_eq!(image.files[0].sha256, Sha256::of(b"kernel"));
    assert_eq!(image.reference, format!("coreos@{}", image.digest.short()));

    let pin = image.pin();
    fs::write(&kernel, "another").unwrap();
    assert_eq!(
        format!("{:#}", store.ensure(&spec, &pin, &printer()).unwrap_err()),
        format!(
            "image `coreos`: `coreos_production_pxe.vmlinuz` is not the file that was locked: expected sha256 {}, \
             found {}",
            Sha256::of(b"kernel"),
            Sha256::of(b"another")
        )
    );
    remove(&store, "coreos");
    assert!(kernel.exists(), "a file of the user is never removed");
}

#[test]
fn a_kept_file_with_another_digest_than_its_entry_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = ENTRY.replace("source.recipe.name = \"recipe\"", "source.local.folder = \"files\"");
    let right = Sha256::of(b"right");
    let text = text.replace("\"vmlinuz\"\n", &format!("\"vmlinuz\"\nsha256 = \"{right}\"\n"));
    let spec = mine(folder.path(), &text);
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("vmlinuz"), "wrong").unwrap();
    fs::write(files.join("initrd.img"), "initrd").unwrap();
    let store = store(folder.path());
    let error = format!("{:#}", store.find(&spec, &Pin::default()).unwrap_err());
    let expected = format!(
        "image `mine`: {} is not the file of the image's entry: expected sha256 {right}, found {}",
        files.join("vmlinuz").display(),
        Sha256::of(b"wrong")
    );
    assert_eq!(error, expected);
    fs::write(files.join("vmlinuz"), "right").unwrap();
    assert!(store.find(&spec, &Pin::default()).unwrap().is_some());
}
