//! Whether a config is what the system will take it for.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::filter;
use crate::images::ConfigFormat;
use crate::output::sanitize;

/// Refuses a config that is not valid. `thorough` lets `ignition-validate` judge an Ignition config, where
/// that is installed; it takes some hundredths of a second.
///
/// # Errors
/// What is wrong, with line and column where it is about syntax.
pub fn validate(format: ConfigFormat, text: &str, thorough: bool) -> Result<()> {
    match format {
        ConfigFormat::Ignition => {
            ignition_syntax(text)?;
            if thorough { ignition_validate(VALIDATOR, text) } else { Ok(()) }
        }
        ConfigFormat::CloudConfig => cloud_config(text, &["#cloud-config", "#!"]),
        ConfigFormat::UserData => cloud_config(text, &USER_DATA),
        ConfigFormat::Talos => yaml(text),
        ConfigFormat::None => Ok(()),
    }
}

fn ignition_syntax(text: &str) -> Result<()> {
    let config: Value = serde_json::from_str(text).context("it is not JSON")?;
    let version = config.pointer("/ignition/version").and_then(Value::as_str);
    ensure!(version.is_some(), "it is no Ignition config: it has no `ignition.version`");
    Ok(())
}

fn ignition_validate(program: &str, text: &str) -> Result<()> {
    let output = filter(Command::new(program).arg("-"), text);
    let Some(output) = output.with_context(|| format!("running `{program}`"))? else {
        tracing::debug!("`{program}` is not installed, so the config is checked for syntax only");
        return Ok(());
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<String> = said.lines().map(sanitize).collect();
    bail!("`{program}` says: {}", lines.join("; "))
}

/// The first line says what it is; only one of the forms is YAML.
fn cloud_config(text: &str, beginnings: &[&str]) -> Result<()> {
    let first = text.lines().next().unwrap_or_default();
    ensure!(
        beginnings.iter().any(|beginning| first.starts_with(beginning)),
        "its first line is `{}`, but it must start with {}",
        sanitize(first),
        beginnings.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(" or ")
    );
    if first.trim_end() == "#cloud-config" { yaml(text) } else { Ok(()) }
}

fn yaml(text: &str) -> Result<()> {
    // cloud-init's own examples have `!!binary` in `write_files`; what it holds is none of our business.
    let options = serde_saphyr::options! { ignore_binary_tag_for_string: true };
    match serde_saphyr::from_multiple_with_options::<Mapping>(text, options) {
        Ok(_) => Ok(()),
        Err(error) => {
            let told = error.without_snippet().render_with_formatter(&UserMessageFormatter);
            bail!("it is not YAML: {}", sanitize(told.trim()))
        }
    }
}

/// Names with values, whatever they are; or nothing at all.
struct Mapping;

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: Deserializer<'de>>(document: D) -> Result<Self, D::Error> {
        document.deserialize_any(MappingVisitor)
    }
}

struct MappingVisitor;

impl<'de> Visitor<'de> for MappingVisitor {
    type Value = Mapping;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names with values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Mapping, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Mapping)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Mapping, E> {
        Ok(Mapping)
    }
}

const VALIDATOR: &str = "ignition-validate";

/// <https://cloudinit.readthedocs.io/en/latest/explanation/format.html>
const USER_DATA: [&str; 8] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "Content-Type: multipart/",
    "MIME-Version:",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(format: ConfigFormat, text: &str) -> String {
        format!("{:#}", validate(format, text, true).unwrap_err())
    }

    #[test]
    fn what_is_right_passes() {
        for (format, text) in [
            (ConfigFormat::Ignition, r#"{"ignition":{"version":"3.3.0"}}"#),
            (ConfigFormat::CloudConfig, "#cloud-config\nhostname: $private_ipv4\n"),
            (ConfigFormat::CloudConfig, "#cloud-config\n"),
            (
                ConfigFormat::CloudConfig,
                "#cloud-config\ncoreos: {etcd2: {discovery: <DISCOVERY_URL>}}\n",
            ),
            (ConfigFormat::CloudConfig, "#!/bin/sh\n{ not: yaml"),
            (ConfigFormat::UserData, "#cloud-config\nruncmd: [[a, b]]\n"),
            (
                ConfigFormat::UserData,
                "#cloud-config\nwrite_files: [{path: /a, content: !!binary f0VMRgIBAQ==}]\n",
            ),
            (ConfigFormat::UserData, "#cloud-config\n? [a, b]\n: 1\n1: x\n"),
            (ConfigFormat::UserData, "## template: jinja\n#cloud-config\n{% if x %}"),
            (ConfigFormat::UserData, "#cloud-config-archive\n- text\n"),
            (ConfigFormat::Talos, "version: v1alpha1\n---\nkind: X\n"),
            (ConfigFormat::None, "\0"),
        ] {
            validate(format, text, true).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert_eq!(
            wrong(ConfigFormat::Ignition, "{\n  \"ignition\": {,}\n}"),
            "it is not JSON: key must be a string at line 2 column 16"
        );
        assert_eq!(
            wrong(ConfigFormat::Ignition, "{}"),
            "it is no Ignition config: it has no `ignition.version`"
        );
        assert_eq!(
            wrong(ConfigFormat::CloudConfig, "hostname: x\n"),
            "its first line is `hostname: x`, but it must start with `#cloud-config` or `#!`"
        );
        for (text, expected) in [
            (
                "hostname: a: b\n",
                "mapping values are not allowed in this context at line 2, column 12",
            ),
            ("- a\n", "invalid type: sequence, expected names with values"),
            (
                "a: 1\nb: 2\na: 3\n",
                "duplicate mapping key `a` is not allowed here at line 4, column 1",
            ),
        ] {
            let text = format!("#cloud-config\n{text}");
            assert_eq!(wrong(ConfigFormat::UserData, &text), format!("it is not YAML: {expected}"));
        }
    }

    #[test]
    fn ignition_judges_itself() {
        assert!(
            Command::new(VALIDATOR).arg("-version").output().is_ok(),
            "`ignition-validate` is needed (package ignition)"
        );
        let text = r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"a"}]}}"#;
        assert_eq!(
            wrong(ConfigFormat::Ignition, text),
            "`ignition-validate` says: error at $.storage.files.0.path, line 1 col 61: path not absolute"
        );
        validate(ConfigFormat::Ignition, text, false).unwrap();
        ignition_validate("ignition-validate-that-is-not-there", text).unwrap();
    }
}
