//! The templates: ours are in the binary, a user's file of the same name takes their place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use fs_err as fs;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::Serialize;

/// All templates, by names such as `domain-templates/domain.xml.j2`.
#[derive(Clone, Debug)]
pub struct Templates {
    environment: Environment<'static>,
    folders: Vec<PathBuf>,
    /// What is rendered in the place of which template.
    instead: BTreeMap<String, String>,
}

impl Templates {
    /// Ours, with those in `folders` (each laid out like our source tree) taking their place;
    /// the first folder wins.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(syntax());
        environment.set_debug(true);
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".xml.j2") || name.starts_with(FLAG) { XML } else { AutoEscape::None }
        });
        environment.set_formatter(format_value);
        let places = folders.clone();
        environment.set_loader(move |name| load(&places, name));
        Self { environment, folders, instead: BTreeMap::new() }
    }

    /// With a text that a flag named in the place of the XML template `name`, which it may extend.
    /// Messages call it by the flag and the file.
    ///
    /// # Errors
    /// If the text is no template; the message names file and line.
    pub fn instead(mut self, name: &str, flag: &str, file: &str, text: String) -> Result<Self> {
        let own = format!("{FLAG}{flag} {file}");
        self.environment
            .add_template_owned(own.clone(), text)
            .map_err(|error| explain(&own, &error))?;
        self.instead.insert(name.to_owned(), own);
        Ok(self)
    }

    /// Renders the template of this name.
    ///
    /// # Errors
    /// If there is no such template, or it is wrong; the message names file and line.
    pub fn render(&self, name: &str, context: impl Serialize) -> Result<String> {
        let name = self.instead.get(name).map_or(name, String::as_str);
        let template =
            self.environment.get_template(name).map_err(|error| explain(name, &error))?;
        template.render(Serde(context)).map_err(|error| explain(name, &error))
    }

    /// Renders a template that the user gave as text; `name` is for messages.
    ///
    /// # Errors
    /// If the template is wrong; the message names file and line.
    pub fn render_text(&self, name: &str, text: &str, context: impl Serialize) -> Result<String> {
        self.environment
            .render_named_str(name, text, Serde(context))
            .map_err(|error| explain(name, &error))
    }

    /// Where the template of this name comes from, for people.
    pub(crate) fn place(&self, name: &str) -> String {
        let files = self.folders.iter().map(|folder| folder.join(name));
        match files.into_iter().find(|file| file.exists()) {
            Some(file) => format!("`{}`", file.display()),
            None => format!("virtlab's own `{name}`"),
        }
    }

    /// The text of the template of this name.
    ///
    /// # Errors
    /// If there is no such template.
    pub fn source(&self, name: &str) -> Result<String> {
        let template =
            self.environment.get_template(name).map_err(|error| explain(name, &error))?;
        Ok(template.source().to_owned())
    }
}

fn load(folders: &[PathBuf], name: &str) -> Result<Option<String>, minijinja::Error> {
    let is_plain = name.split('/').all(|part| !part.is_empty() && part != "..");
    for folder in folders.iter().filter(|_| is_plain) {
        match fs::read_to_string(folder.join(name)) {
            Ok(text) => return Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = "reading a template";
                return Err(
                    minijinja::Error::new(ErrorKind::InvalidOperation, message).with_source(error)
                );
            }
        }
    }
    let embedded = EMBEDDED.iter().find(|(known, _)| *known == name);
    Ok(embedded.map(|(_, text)| (*text).to_owned()))
}

/// Block tags may stand on lines of their own without leaving empty ones.
fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    syntax.build().expect("the delimiters are the default ones")
}

/// minijinja's own escaping writes `/` as an entity and booleans as `True`: in XML we want neither.
fn format_value(
    out: &mut Output,
    state: &mut State,
    value: &Value,
) -> Result<(), minijinja::Error> {
    // It would be written as `None`, which looks like a name wherever it lands.
    if value.is_none() {
        return Err(minijinja::Error::new(
            ErrorKind::InvalidOperation,
            "this value is not known here (on a bridge, the nodes' addresses); write {{ … or … }}",
        ));
    }
    if *state.auto_escape() != XML {
        return minijinja::escape_formatter(out, state, value);
    }
    if value.kind() == minijinja::value::ValueKind::Bool {
        return Err(minijinja::Error::new(
            ErrorKind::BadEscape,
            "a boolean has no place in XML; write {{ 'yes' if … else 'no' }}",
        ));
    }
    let text = value.to_string();
    let written = if value.is_safe() {
        out.write_str(&text)
    } else {
        out.write_str(&quick_xml::escape::escape(&text))
    };
    written.map_err(minijinja::Error::from)
}

fn explain(asked_for: &str, error: &minijinja::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::TemplateNotFound {
        return anyhow!("there is no template `{asked_for}`");
    }
    let name = error.name().unwrap_or(asked_for);
    let place = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let mut cause = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
    if error.kind() == ErrorKind::UndefinedError {
        let names = undefined_names(error);
        cause = format!("{names} is not defined; docs/templates.md lists what a template may use");
    }
    if error.kind() == ErrorKind::SyntaxError {
        cause += "; braces of the text's own go between {% raw %} and {% endraw %}";
    }
    let result: Result<()> = Err(anyhow!(cause));
    result
        .with_context(|| format!("rendering template `{name}`{place}"))
        .expect_err("it is an error")
}

/// minijinja does not say which name was undefined, but it says where in the source, if it is in
/// debug mode.
pub(crate) fn undefined_names(error: &minijinja::Error) -> String {
    let text =
        error.template_source().zip(error.range()).and_then(|(source, range)| source.get(range));
    text.map_or_else(|| "a variable".to_owned(), |text| format!("`{}`", text.trim()))
}

/// How the names of templates begin that a flag named.
const FLAG: &str = "--";
const XML: AutoEscape = AutoEscape::Custom(std::borrow::Cow::Borrowed("xml"));

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../", $name)))),*]
    };
}

/// Every template of ours, by its path in the source tree.
const EMBEDDED: &[(&str, &str)] = embedded![
    "boot-templates/boot.ipxe.j2",
    "boot-templates/node.ipxe.j2",
    "boot-templates/pxe/dhcpd.conf.j2",
    "boot-templates/pxe/dnsmasq.conf.j2",
    "boot-templates/pxe/kea-dhcp4.json.j2",
    "boot-templates/pxe/nginx.conf.j2",
    "boot-templates/pxe/pfsense.txt.j2",
    "boot-templates/pxe/proxy-dhcp.conf.j2",
    "boot-templates/pxe/pxelinux.default.j2",
    "boot-templates/pxe/tftpd-hpa.j2",
    "boot-templates/pxelinux.cfg.j2",
    "config-templates/etcd-coreos.yaml.j2",
    "config-templates/etcd-debian.yaml.j2",
    "config-templates/etcd-fedora-coreos.ign.j2",
    "config-templates/etcd-flatcar.ign.j2",
    "config-templates/etcd-gateway.j2",
    "config-templates/etcd-micro.ign.j2",
    "config-templates/etcd.env.j2",
    "domain-templates/domain.xml.j2",
    "network-templates/base.xml.j2",
    "network-templates/isolated.xml.j2",
    "network-templates/nat.xml.j2",
    "network-templates/routed.xml.j2",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        folder
    }

    fn render(name: &str, text: &str) -> Result<String> {
        let folder = folder(name, text);
        let context =
            BTreeMap::from([("text", Value::from("<&'\">/")), ("yes", Value::from(true))]);
        Templates::new(vec![folder.path().to_owned()]).render(name, context)
    }

    #[test]
    fn values_are_escaped_in_xml_and_only_there() {
        assert_eq!(
            render("x/a.xml.j2", "<a>{{ text }}</a>").unwrap(),
            "<a>&lt;&amp;&apos;&quot;&gt;/</a>"
        );
        assert_eq!(render("x/a.ipxe.j2", "{{ text }}").unwrap(), "<&'\">/");
    }

    #[test]
    fn a_boolean_in_xml_is_refused_instead_of_written_wrongly() {
        let error = format!("{:#}", render("x/a.xml.j2", "\n<a b='{{ yes }}'/>").unwrap_err());
        assert_eq!(
            error,
            "rendering template `x/a.xml.j2`, line 2: a boolean has no place in XML; write {{ 'yes' if … else 'no' }}"
        );
    }

    #[test]
    fn what_is_not_known_is_refused_instead_of_written_as_none() {
        for name in ["x/a.xml.j2", "x/a.ign.j2"] {
            let error = format!("{:#}", render(name, "\n{{ none }}").unwrap_err());
            assert!(
                error.starts_with(&format!(
                    "rendering template `{name}`, line 2: this value is not known here"
                )),
                "{error}"
            );
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, expected) in [
            ("\n\n{% if %}", "rendering template `x/a.xml.j2`, line 3: unexpected end of block"),
            (
                "\n{{ nope }}",
                "rendering template `x/a.xml.j2`, line 2: `nope` is not defined; docs/templates.md lists what a template may use",
            ),
        ] {
            let error = format!("{:#}", render("x/a.xml.j2", text).unwrap_err());
            assert!(error.starts_with(expected), "{error}");
        }
        let error = Templates::new(vec![]).render("x/none.xml.j2", ()).unwrap_err();
        assert_eq!(error.to_string(), "there is no template `x/none.xml.j2`");
    }

    #[test]
    fn a_users_template_takes_the_place_of_ours() {
        let name = "network-templates/isolated.xml.j2";
        assert_eq!(render(name, "<mine/>").unwrap(), "<mine/>");
    }

    #[test]
    fn a_template_that_a_flag_names_is_xml_and_may_extend_ours() {
        let folder = folder("x/a.xml.j2", "<a>{% block b %}{% endblock %}</a>");
        let render = |text: &str| {
            let templates = Templates::new(vec![folder.path().to_owned()]);
            templates
                .instead("x/a.xml.j2", "x-template", "mine.j2", text.to_owned())?
                .render("x/a.xml.j2", BTreeMap::from([("text", "<&>")]))
        };
        let text = "{% extends 'x/a.xml.j2' %}{% block b %}{{ text }}{% endblock %}";
        assert_eq!(render(text).unwrap(), "<a>&lt;&amp;&gt;</a>");
        for (text, expected) in [
            ("\n{{ nope }}", "rendering template `--x-template mine.j2`, line 2: `nope` is not"),
            ("{% if %}", "rendering template `--x-template mine.j2`, line 1: "),
        ] {
            let error = format!("{:#}", render(text).unwrap_err());
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_template_cannot_be_read_from_outside_its_folder() {
        let folder = folder("inside/a.xml.j2", "");
        fs::write(folder.path().join("outside.xml.j2"), "secret").unwrap();
        let templates = Templates::new(vec![folder.path().join("inside")]);
        assert!(templates.render("../outside.xml.j2", ()).is_err());
    }
}
