//! What the templates of an entry may use: kernel arguments and URLs.

use anyhow::{Result, anyhow};
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use crate::template::undefined_names;

/// What the kernel arguments may use.
#[derive(Clone, Debug, Serialize)]
pub struct BootVariables {
    /// The arguments that name the kernel's consoles: the serial one last, and a screen if there is one.
    pub console: String,
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
            console: "console=ttyS0".to_owned(),
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

/// What the URLs of an entry may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UrlVariables<'a> {
    /// The channel, if the image has channels.
    pub(crate) channel: Option<&'a str>,
    /// The version, or why there is none.
    pub(crate) version: Result<&'a str, &'static str>,
}

impl UrlVariables<'_> {
    /// Fills them into a URL.
    ///
    /// # Errors
    /// If the URL names another variable, or one that has no value here; the message says why.
    pub(crate) fn expand(&self, url: &str) -> Result<String> {
        let known = [("channel", self.channel), ("version", self.version.ok())];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        render(url, Value::from_pairs(known)).map_err(|error| {
            explain(&error, |name| match (name, self.version) {
                ("`channel`", _) if self.channel.is_none() => "the source has no `channels`",
                ("`version`", Err(reason)) => reason,
                _ => "a URL may use `channel` and `version`",
            })
        })
    }
}

/// Renders the kernel arguments.
///
/// # Errors
/// If the template is wrong, or names a variable that does not exist.
pub(crate) fn kernel_arguments(template: &str, variables: &BootVariables) -> Result<String> {
    let text = render(template, Value::from(Serde(variables)))
        .map_err(|error| explain(&error, |_| "docs/images.md lists what `arguments` may use"))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Renders a template in which a name that does not exist is an error.
fn render(template: &str, variables: Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_debug(true); // for the name that is not defined
    environment.render_str(template, variables)
}

fn explain(error: &minijinja::Error, why: impl FnOnce(&str) -> &'static str) -> anyhow::Error {
    if error.kind() == ErrorKind::UndefinedError {
        let name = undefined_names(error);
        return anyhow!("{name} is not defined: {}", why(&name));
    }
    anyhow!(error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned))
}
