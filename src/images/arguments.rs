//! What the templates of an entry may use: kernel arguments and URLs.

use anyhow::Result;
use minijinja::Environment;
use minijinja::UndefinedBehavior;
use serde::Serialize;

/// What the kernel arguments may use.
#[derive(Clone, Debug, Serialize)]
pub struct BootVariables {
    /// The URL of the node's own config file.
    pub config_url: String,
    /// The URL of the node's `NoCloud` folder, with the slash at its end.
    pub nocloud_url: String,
    /// The URL of the folder of the image's files, without a slash at its end.
    pub files_url: String,
    /// The node.
    pub node: NodeVariables,
    /// The lab.
    pub lab: LabVariables,
}

/// The node that boots.
#[derive(Clone, Debug, Serialize)]
pub struct NodeVariables {
    /// Its host name.
    pub name: String,
    /// Its IPv4 address.
    pub ip: String,
    /// The MAC address of its boot interface.
    pub mac: String,
}

/// The lab it belongs to.
#[derive(Clone, Debug, Serialize)]
pub struct LabVariables {
    /// Its name.
    pub name: String,
}

impl BootVariables {
    /// Values to try a template with.
    pub(crate) fn sample() -> Self {
        Self {
            config_url: "http://192.0.2.1/config".to_owned(),
            nocloud_url: "http://192.0.2.1/nocloud/".to_owned(),
            files_url: "http://192.0.2.1/files".to_owned(),
            node: NodeVariables {
                name: "lab-1".to_owned(),
                ip: "192.0.2.11".to_owned(),
                mac: "52:54:00:00:00:01".to_owned(),
            },
            lab: LabVariables { name: "lab".to_owned() },
        }
    }
}

/// Fills `channel` and `version` into a URL.
///
/// # Errors
/// If the URL names another variable.
pub(crate) fn expand(url: &str, channel: &str, version: &str) -> Result<String> {
    let variables =
        minijinja::value::Value::from_pairs([("channel", channel), ("version", version)]);
    Ok(render(url, variables)?)
}

/// Renders a template in which a name that does not exist is an error.
pub(crate) fn render(
    template: &str,
    variables: impl Into<minijinja::value::Value>,
) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.render_str(template, variables.into())
}
