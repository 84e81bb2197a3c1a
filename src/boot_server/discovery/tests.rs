//! The registry with its file: what outlives a restart, and what is refused.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const BASE: &str = "http://10.0.0.1:8080/discovery";

#[test]
fn a_token_survives_a_restart_and_is_readable_by_the_owner_only() {
    let (_folder, path) = place();
    let discovery = Discovery::open_with(&path, &format!("{BASE}/"), counter()).unwrap();
    let url = discovery.new_token(3).unwrap();
    assert_eq!(url, format!("{BASE}/{:032x}", 2));
    let token = url.rsplit('/').next().unwrap();
    let put = |registry: &mut Registry| registry.put(token, "1f", "a=http://h:1", None);
    discovery.change(|registry, _| put(registry)).unwrap();
    let before = discovery.saved.borrow().registry.clone();
    drop(discovery);

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let discovery = Discovery::open_with(&path, BASE, counter()).unwrap();
    assert_eq!(discovery.saved.borrow().registry, before);
}

#[test]
fn tokens_are_not_repeated() {
    let (_folder, path) = place();
    let discovery = Discovery::open(&path, BASE).unwrap();
    let urls: std::collections::BTreeSet<_> =
        (0..20).map(|_| discovery.new_token(1).unwrap()).collect();
    assert_eq!(urls.len(), 20);
}

#[test]
fn a_corrupt_file_is_named_and_left_alone() {
    let (_folder, path) = place();
    fs::write(&path, "{\"version\": 1, ").unwrap();
    let error = Discovery::open(&path, BASE).err().unwrap();
    let expected = format!(
        "reading the discovery registry `{}`: EOF while parsing a value at line 1 column 15",
        path.display()
    );
    assert_eq!(format!("{error:#}"), expected);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"version\": 1, ");
}

#[test]
fn two_cannot_have_the_same_registry_open() {
    let (_folder, path) = place();
    let first = Discovery::open(&path, BASE).unwrap();
    let error = Discovery::open(&path, BASE).err().unwrap();
    let expected = format!("opening the discovery registry `{}`: it is in use", path.display());
    assert_eq!(format!("{error:#}"), expected);
    drop(first);
    Discovery::open(&path, BASE).unwrap();
}

#[test]
fn what_cannot_be_saved_has_not_happened() {
    let (folder, path) = place();
    let discovery = Discovery::open_with(&path, BASE, counter()).unwrap();
    let url = discovery.new_token(3).unwrap();
    let before = discovery.saved.borrow().registry.clone();
    drop(folder);
    let error = format!("{:#}", discovery.new_token(3).unwrap_err());
    let expected = format!(
        "making a discovery URL: saving the discovery registry: writing `{}`: ",
        path.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(discovery.saved.borrow().registry, before);
    let token = url.rsplit('/').next().unwrap();
    assert_eq!(discovery.saved.borrow().registry.list(token, false).unwrap().node.nodes, []);
}

#[test]
fn wrong_arguments_are_refused() {
    let (_folder, path) = place();
    let discovery = Discovery::open(&path, BASE).unwrap();
    assert_eq!(
        format!("{:#}", discovery.new_token(0).unwrap_err()),
        "making a discovery URL: the size must be 1 to 1000, not `0`"
    );
    let error = Discovery::open(&path, "ftp://h").err().unwrap();
    assert_eq!(
        format!("{error:#}"),
        "reading the base URL `ftp://h` of the discovery: it must start with `http://` or \
         `https://`"
    );
}

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("discovery.json");
    (folder, path)
}

/// 1, 2, 3… as 16 bytes; the first becomes the registry's id.
fn counter() -> impl FnMut() -> [u8; 16] + Send {
    let mut n = 0_u128;
    move || {
        n += 1;
        n.to_be_bytes()
    }
}
