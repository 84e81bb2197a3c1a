//! What our drawings have in common: lengths as text, round numbers on an axis, a title that fits, and the template engine
//! with everything escaped.

use anyhow::Result;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

/// A place on an axis with its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Tick {
    pub(crate) at: String,
    pub(crate) label: String,
}

/// Draws `drawing` by a template. A name that the template misspells is an error.
///
/// # Errors
/// If the template and the drawing do not fit together, which is a bug.
pub(crate) fn render(template: &str, drawing: impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_formatter(|out, _, value| {
        let text = value.to_string();
        Ok(out.write_str(&quick_xml::escape::escape(text.as_str()))?)
    });
    Ok(environment.render_str(template, Serde(drawing))?)
}

/// The first `length` characters of a text, with an ellipsis if there are more, without what XML cannot hold.
pub(crate) fn fitting(text: &str, length: usize) -> String {
    let text = match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A length with one decimal at most, so that the same number is always the same text.
pub(crate) fn px(length: f64) -> String {
    let text = format!("{length:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// 1, 2, 5, 10, 20, 50, …
pub(crate) fn round_steps() -> impl Iterator<Item = u32> {
    (0..9).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_u32.pow(power)))
}

/// So many characters of a title fit into the width even where the only font is a wide one.
pub(crate) const TITLE_LENGTH: usize = 64;

#[cfg(test)]
pub(crate) mod tests;
