//! Lines of several nodes under each other, each with the name of the node before it, as compose prints them.

use anstyle::{AnsiColor, Style};

/// Puts names before lines, in a column and in colours of their own.
#[derive(Debug)]
pub(crate) struct Prefixes {
    prefixes: Vec<String>,
}

impl Prefixes {
    /// For nodes of these names. The printer takes the colours out where they are not wanted.
    pub(crate) fn new(names: &[impl AsRef<str>]) -> Self {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let prefix = |(index, name): (usize, &&str)| {
            let style = style(index);
            format!("{style}{name:<width$} |{style:#}")
        };
        Self { prefixes: names.iter().enumerate().map(prefix).collect() }
    }

    /// A line of the node at this position.
    pub(crate) fn put(&self, position: usize, line: &str) -> String {
        let prefix = &self.prefixes[position];
        if line.is_empty() { prefix.clone() } else { format!("{prefix} {line}") }
    }
}

fn style(index: usize) -> Style {
    COLOURS[index % COLOURS.len()].on_default()
}

/// Neighbours are easily told apart; red is for errors.
const COLOURS: [AnsiColor; 10] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightYellow,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_a_column_and_have_colours() {
        let names: Vec<String> = (1..=11).map(|index| format!("demo-{index}")).collect();
        let prefixes = Prefixes::new(&names);
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        assert_eq!(plain(&prefixes.put(0, "up")), "demo-1  | up");
        assert_eq!(plain(&prefixes.put(10, "up")), "demo-11 | up");
        assert_eq!(plain(&prefixes.put(0, "")), "demo-1  |");
        assert_eq!(prefixes.put(0, "up"), "\u{1b}[36mdemo-1  |\u{1b}[0m up");
        // The eleventh has the colour of the first.
        assert!(prefixes.put(10, "").starts_with("\u{1b}[36m"));
    }
}
