//! `doctor`: what it finds is the host's, so only its form is compared.

use serde_json::Value;

use crate::support::{User, text};

#[test]
fn doctor_prints_every_check_and_fails_if_one_fails() {
    let user = User::with_a_lab();
    let run = |args: &[&str]| user.virtlab(args).output().unwrap();
    let output = run(&["doctor", "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["ok"].as_bool().unwrap(), output.status.success());
    let checks = report["checks"].as_array().unwrap();
    let failures = checks.iter().filter(|check| check["level"] == "failure").count();
    // Both nodes of the test driver's lab are without a pool, as nobody made one.
    let labs = checks.iter().find(|check| check["check"] == "labs").unwrap();
    assert_eq!(labs["summary"], "lab `demo` is half made: its storage pool is missing");
    assert_eq!(labs["command"], "virtlab create demo");
    let expected = format!("error: {failures} of {} checks failed\n", checks.len());
    assert_eq!(text(&output.stderr), expected);

    let names: Vec<&str> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(text(&run(&["doctor", "-o", "name"]).stdout).lines().collect::<Vec<_>>(), names);
}

#[test]
fn doctor_tells_first_that_libvirt_does_not_answer() {
    let user = User::new();
    let output = user.virtlab(&["doctor", "-c", "test:///nothing/here.xml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.starts_with("failure  libvirt         libvirt does not answer: "), "{said}");
    assert!(said.contains("\nok       subnet"), "{said}");
}
