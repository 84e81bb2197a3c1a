//! What a pull makes of tries that came to nothing, or to the wrong thing.

use std::process::Command;

use tempfile::TempDir;
use virtlab::images::{Catalogue, Pin, Sha256};

use crate::download::{cut, rest, whole};
use crate::faulty::{Faulty, answer};
use crate::support::{bytes, printer, store};

/// An entry of one file `f` on this server.
fn entry(server: &Faulty, file: &[u8]) -> String {
    format!(
        "version = 1\nname = 'mine'\ndescription = ''\narguments = ''\nmemory_mib = 64\n\
         config = 'none'\nready = 'config'\nsource.urls.base = '{}'\n\
         file = [{{ role = 'kernel', name = 'f', sha256 = '{}' }}]\n",
        server.url(""),
        Sha256::of(file)
    )
}

#[test]
fn a_file_that_has_changed_unnoticed_between_two_tries_is_fetched_again() {
    let (old, new) = (bytes(9000, 19), bytes(9000, 20));
    let spec = |server: &Faulty, folder: &TempDir| {
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, entry(server, &new)).unwrap();
        Catalogue::new(&[]).unwrap().find(path.to_str().unwrap()).unwrap()
    };
    // No `ETag` and no `Last-Modified`: the server cannot be asked whether it is the same file.
    let folder = tempfile::tempdir().unwrap();
    let server = Faulty::start(vec![cut(&old, 4000, &[]), rest(&new, 4000), whole(&new)]);
    let image = store(folder.path()).pull(&spec(&server, &folder), &Pin::default(), &printer());
    assert_eq!(std::fs::read(&image.unwrap().files[0].path).unwrap(), new);

    // Once: what is wrong from the start stays wrong.
    let folder = tempfile::tempdir().unwrap();
    let server =
        Faulty::start(vec![cut(&old, 4000, &[]), rest(&old, 4000), whole(&old), whole(&new)]);
    let image = store(folder.path()).pull(&spec(&server, &folder), &Pin::default(), &printer());
    let error = format!("{:#}", image.unwrap_err());
    assert!(error.contains("`f` is not what the image's entry says"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn each_further_try_is_told_unless_quiet() {
    let file = bytes(500, 18);
    for quiet in [&[][..], &["-q"]] {
        let busy = answer("503 Service Unavailable", &["Content-Length: 0"], b"");
        let server = Faulty::start(vec![busy, whole(&file)]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.toml"), entry(&server, &file)).unwrap();
        let mut pull = Command::new(env!("CARGO_BIN_EXE_virtlab"));
        pull.args(["image", "pull", "mine.toml"]).args(quiet).current_dir(folder.path());
        let output = pull.env_clear().env("HOME", folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let url = server.url("/f");
        let retry = format!(
            "fetching {url}: the server says 503 Service Unavailable; trying again in 1.0s"
        );
        let expected = [format!("fetching {url}"), retry];
        let said: Vec<&str> = said.lines().collect();
        if quiet.is_empty() {
            assert_eq!(said[..2], expected);
        } else {
            assert_eq!(said, [""; 0]);
        }
    }
}
