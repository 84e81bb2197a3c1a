//! What the booted systems read about themselves: a template rendered for each node, then the
//! article's own placeholders, which stay what they were in 2016.

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;

use super::{LabContext, NodeContext, all_nodes};
use crate::lab::{Lab, Node};
use crate::template::Templates;

/// What a config template may use beside the lab and its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigInput {
    /// The template's text.
    pub template: String,
    /// Public SSH keys, one a line of `authorized_keys`.
    pub ssh_keys: Vec<String>,
}

/// The config of one node, still with the article's placeholders in it: `$private_ipv4` and
/// `$public_ipv4` depend on who asks, see [`substitute_addresses`]; a discovery URL is made only for
/// a lab that is made, see [`put_discovery_url`].
///
/// # Errors
/// If the template is wrong.
pub fn config(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    input: &ConfigInput,
) -> Result<String> {
    let context = ConfigContext {
        lab: LabContext::new(lab),
        node: node.clone().into(),
        nodes: all_nodes(lab),
        boot_url: lab.boot_url(),
        ssh_keys: &input.ssh_keys,
    };
    templates.render_text(lab.spec.config.name(), &input.template, context)
}

/// Whether a config wants an etcd discovery URL.
pub fn wants_discovery(config: &str) -> bool {
    config.contains(DISCOVERY_PLACEHOLDER)
}

/// Puts a discovery URL in the place of every `<DISCOVERY_URL>`, as the article's `sed` does.
#[must_use]
pub fn put_discovery_url(config: &str, url: &str) -> String {
    config.replace(DISCOVERY_PLACEHOLDER, url)
}

/// Puts the asking address in the place of `$private_ipv4` and `$public_ipv4`, as the article's
/// nginx does. A backslash before the dollar keeps the name as it is, without the backslash: the
/// rule of coreos-cloudinit.
pub fn substitute_addresses(text: &str, asking: IpAddr) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        let name = ADDRESS_PLACEHOLDERS.iter().find(|name| from.starts_with(**name));
        match (name, before.strip_suffix('\\')) {
            (Some(name), Some(unescaped)) => {
                out.push_str(unescaped);
                out.push_str(name);
            }
            (Some(_), None) => {
                out.push_str(before);
                out.push_str(&asking.to_string());
            }
            (None, _) => {
                out.push_str(before);
                out.push('$');
            }
        }
        rest = &from[name.map_or(1, |name| name.len())..];
    }
    out.push_str(rest);
    out
}

/// Whether the cluster that a node starts with is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// All its members start together.
    New,
    /// The node joins members that are there.
    Existing,
}

/// Whether a config leaves to the moment of asking how etcd is to start.
pub fn wants_cluster(config: &str) -> bool {
    config.contains(CLUSTER_PLACEHOLDER)
}

/// Puts etcd's `initial-cluster` and `initial-cluster-state` in the place of `$etcd_initial_cluster` and
/// `$etcd_initial_cluster_state`.
#[must_use]
pub fn put_cluster(config: &str, cluster: &str, state: InitialState) -> String {
    let state = match state {
        InitialState::New => "new",
        InitialState::Existing => "existing",
    };
    // The longer name first: the other one is its beginning.
    config.replace(STATE_PLACEHOLDER, state).replace(CLUSTER_PLACEHOLDER, cluster)
}

/// A placeholder that was in `before` more often than it is in `after`, which a program made of it.
pub fn lost_placeholder(before: &str, after: &str) -> Option<&'static str> {
    let [private, public] = ADDRESS_PLACEHOLDERS;
    let all = [DISCOVERY_PLACEHOLDER, private, public, STATE_PLACEHOLDER, CLUSTER_PLACEHOLDER];
    let count = |text: &str, name: &str| text.matches(name).count();
    all.into_iter().find(|name| count(after, name) < count(before, name))
}

#[derive(Serialize)]
struct ConfigContext<'a> {
    lab: LabContext<'a>,
    node: NodeContext,
    nodes: Vec<NodeContext>,
    boot_url: String,
    ssh_keys: &'a [String],
}

const DISCOVERY_PLACEHOLDER: &str = "<DISCOVERY_URL>";
const CLUSTER_PLACEHOLDER: &str = "$etcd_initial_cluster";
const STATE_PLACEHOLDER: &str = "$etcd_initial_cluster_state";
const ADDRESS_PLACEHOLDERS: [&str; 2] = ["$private_ipv4", "$public_ipv4"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asking_address_is_put_in() {
        let ip = "192.168.5.100".parse().unwrap();
        for (text, expected) in [
            ("Your IP is: $private_ipv4", "Your IP is: 192.168.5.100"),
            (
                "http://$private_ipv4:2379,http://$public_ipv4:4001",
                "http://192.168.5.100:2379,http://192.168.5.100:4001",
            ),
            (r"\$private_ipv4 \$public_ipv4", "$private_ipv4 $public_ipv4"),
            ("$HOME ${x} $$private_ipv4 $", "$HOME ${x} $192.168.5.100 $"),
            (r"\\$private_ipv4", r"\$private_ipv4"),
            ("$private_ipv6 $private", "$private_ipv6 $private"),
            ("", ""),
        ] {
            assert_eq!(substitute_addresses(text, ip), expected, "{text}");
        }
    }

    #[test]
    fn the_cluster_is_put_in_and_its_state() {
        let text = "cluster: $etcd_initial_cluster\nstate: $etcd_initial_cluster_state\n";
        assert!(wants_cluster(text));
        let filled = put_cluster(text, "a=http://10.0.0.2:2380", InitialState::Existing);
        assert_eq!(filled, "cluster: a=http://10.0.0.2:2380\nstate: existing\n");
        assert!(!wants_cluster(&filled));
    }

    #[test]
    fn a_placeholder_that_was_encoded_is_lost() {
        let before = "$private_ipv4 <DISCOVERY_URL> $private_ipv4";
        for (after, lost) in [
            (before, None),
            ("$private_ipv4 %3CDISCOVERY_URL%3E $private_ipv4", Some("<DISCOVERY_URL>")),
            ("$private_ipv4 <DISCOVERY_URL> %24private_ipv4", Some("$private_ipv4")),
        ] {
            assert_eq!(lost_placeholder(before, after), lost, "{after}");
        }
    }
}
