//! Ansible's dynamic inventory: a group for each lab.
//! <https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html>

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;

use crate::lab::{LabName, MacAddr};

/// What Ansible is told of a node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HostVars {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ansible_host: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ansible_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ansible_ssh_private_key_file: Option<String>,
    pub(crate) ansible_ssh_common_args: String,
    pub(crate) virtlab_lab: LabName,
    pub(crate) virtlab_index: u32,
    pub(crate) virtlab_mac: MacAddr,
    /// `running`, `paused`, `off` or `missing`.
    pub(crate) virtlab_state: &'static str,
}

/// All of it, as `--list` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Inventory {
    #[serde(rename = "_meta")]
    meta: Meta,
    all: Children,
    #[serde(flatten)]
    groups: BTreeMap<String, Hosts>,
}

/// With the variables in it, Ansible does not ask for each host again.
#[derive(Debug, Serialize)]
struct Meta {
    schema_version: u32,
    hostvars: BTreeMap<String, HostVars>,
}

#[derive(Debug, Serialize)]
struct Children {
    children: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Hosts {
    hosts: Vec<String>,
}

/// From nodes' names and what there is to tell of them.
pub(crate) fn inventory(hosts: Vec<(String, HostVars)>) -> Inventory {
    let mut groups: BTreeMap<String, Hosts> = BTreeMap::new();
    for (name, vars) in &hosts {
        groups.entry(group(&vars.virtlab_lab)).or_default().hosts.push(name.clone());
    }
    let all = Children { children: groups.keys().cloned().collect() };
    let hostvars = hosts.into_iter().collect();
    Inventory { meta: Meta { schema_version: SCHEMA_VERSION, hostvars }, all, groups }
}

/// What `ssh` needs on its command line: these options, quoted by nobody.
pub(crate) fn common_args(options: &[(&str, &str)]) -> String {
    let option = |(name, value): &(&str, &str)| format!("-o {name}={value}");
    options.iter().map(option).collect::<Vec<_>>().join(" ")
}

/// A path as Ansible's variable has it.
pub(crate) fn key_file(path: &Path) -> String {
    path.display().to_string()
}

/// A group's name is one of a variable for Ansible: no hyphens, no digit first. No lab's name begins with a hyphen, so
/// that no two labs have one group.
fn group(lab: &LabName) -> String {
    let name = lab.as_str().replace('-', "_");
    let is_special = ["all", "ungrouped"].contains(&name.as_str());
    if is_special || name.starts_with(|first: char| first.is_ascii_digit()) {
        return format!("_{name}");
    }
    name
}

const SCHEMA_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lab_is_a_group_under_a_name_that_ansible_takes() {
        for (lab, expected) in
            [("demo", "demo"), ("my-lab", "my_lab"), ("2b", "_2b"), ("all", "_all")]
        {
            assert_eq!(group(&lab.parse().unwrap()), expected);
        }
    }
}
