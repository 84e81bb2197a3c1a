//! The program itself runs with the oldest libvirt that is supported.

use std::process::Command;

use virtlab::lab::LibvirtVersion;

#[test]
fn no_function_of_libvirt_is_called_that_the_oldest_supported_one_lacks() {
    let mut readelf = Command::new("readelf");
    readelf.args(["--version-info", "--wide", env!("CARGO_BIN_EXE_virtlab")]);
    let output = readelf.output().expect("readelf (package binutils) runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // libvirt names each function with the version that it came with.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.split_whitespace().filter_map(|word| word.strip_prefix("LIBVIRT_"));
    let versions: Vec<LibvirtVersion> = names.map(version).collect();
    let newest = versions.iter().max().expect("the program is linked with libvirt");
    assert!(*newest <= LibvirtVersion::OLDEST, "a function of libvirt {newest} is called");
}

/// `7.7.0`
fn version(text: &str) -> LibvirtVersion {
    let parts: Vec<u32> = text.split('.').map(|part| part.parse().expect("a number")).collect();
    let [major, minor, release] = parts[..] else { panic!("{text} is no version") };
    LibvirtVersion::new(major, minor, release)
}
