//! Takes secrets out of texts that are shown to people: who looks over a shoulder, or reads a report, is to see what a
//! node is given and not how to get in.
//!
//! What is a secret is told by its form (a private key, a password's hash) or by the name it has (`password`, `token`), in
//! YAML, JSON, kernel arguments, and percent- or base64-encoded in either. It is a courtesy, and no protection.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text with `[hidden]` in the place of each secret; `known` are such whatever their form.
pub(crate) fn hide(text: &str, known: &[String]) -> String {
    let mut text = text.replace(HIDDEN, PLACE);
    for secret in known.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), PLACE);
    }
    for find in [private_key, encoded, hash, user_info, named] {
        text = replace_all(&text, find);
    }
    text.replace(PLACE, HIDDEN)
}

/// A part of a text, by the places of its first byte and of the one after its last.
type Found = (usize, usize);

/// Replaces what `find` finds, which looks from a place on.
fn replace_all(text: &str, find: fn(&str) -> Option<Found>) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = find(rest).filter(|(_, end)| *end > 0) {
        shown.push_str(&rest[..start]);
        if start < end {
            shown.push_str(PLACE);
        }
        rest = &rest[end..];
    }
    shown + rest
}

/// What is between the first and the last line of a private key.
fn private_key(text: &str) -> Option<Found> {
    let label = "PRIVATE KEY-----";
    let begin = text.match_indices("-----BEGIN ").find_map(|(at, _)| {
        let end = text[at..].find(label).filter(|length| *length < 40)?;
        Some(at + end + label.len())
    })?;
    let end = text[begin..].find("-----END ").map_or(text.len(), |length| begin + length);
    Some((begin, end))
}

/// Base64 of a text that has secrets in it, or of one that is compressed too, so that nobody can look.
fn encoded(text: &str) -> Option<Found> {
    let is_digit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut start = 0;
    for run in text.split(|c| !is_digit(c)) {
        let found = (start, start + run.len());
        start = found.1 + text[found.1..].chars().next().map_or(0, char::len_utf8);
        if run.len() < SHORTEST_BASE64 {
            continue;
        }
        let Ok(bytes) = STANDARD.decode(run) else { continue };
        let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
        let has_secrets = String::from_utf8(bytes).is_ok_and(|inner| hide(&inner, &[]) != inner);
        if is_gzip || has_secrets {
            return Some(found);
        }
    }
    None
}

/// A password as crypt(5) and its likes keep it.
fn hash(text: &str) -> Option<Found> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "$./+=,-_".contains(c);
    HASHES.iter().filter_map(|prefix| text.find(prefix)).min().map(|start| {
        let rest = &text[start..];
        (start, start + rest.find(|c| !is_part(c)).unwrap_or(rest.len()))
    })
}

/// The password in `https://user:password@host`.
fn user_info(text: &str) -> Option<Found> {
    text.match_indices("://").find_map(|(at, separator)| {
        let start = at + separator.len();
        let rest = &text[start..];
        let authority = &rest[..rest.find(['/', ' ', '"', '\'', '\n']).unwrap_or(rest.len())];
        let user = &authority[..authority.rfind('@')?];
        let password = user.find(':')? + 1;
        Some((start + password, start + user.len()))
    })
}

/// The value of what is called by the name of a secret.
fn named(text: &str) -> Option<Found> {
    let lower = text.to_ascii_lowercase();
    let word = |name: &&str| lower.find(*name).map(|at| at + name.len());
    let name_end = NAMES.iter().filter_map(word).min()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut at = name_end;
    at += lower[at..].find(|c| !is_name(c)).unwrap_or(lower.len() - at);
    let nothing = Some((at, at));
    let skip = |at: usize, any: &[&str]| {
        any.iter().find(|it| lower[at..].starts_with(**it)).map(|it| at + it.len())
    };
    at = skip(at, &QUOTES).unwrap_or(at);
    while let Some(after) = skip(at, &BLANKS) {
        at = after;
    }
    let Some(mut at) = skip(at, &["=", ":", "%3d", "%3a"]) else { return nothing };
    while let Some(after) = skip(at, &BLANKS) {
        at = after;
    }
    let rest = &lower[at..];
    if rest.starts_with(['|', '>']) {
        return Some((at, at + block(text, at)));
    }
    if rest.starts_with('\n') && lower[..name_end].ends_with("chpasswd") {
        return Some((at, at + block(text, at)));
    }
    let quote = QUOTES.iter().find(|quote| rest.starts_with(**quote));
    let (start, ends): (usize, Vec<&str>) = match quote {
        Some(quote) => (at + quote.len(), vec![quote]),
        None => (at, ENDS.to_vec()),
    };
    let value = &lower[start..];
    let length = ends.iter().filter_map(|end| value.find(end)).min().unwrap_or(value.len());
    if NO_SECRETS.contains(&&value[..length]) {
        return Some((start, start));
    }
    Some((start, start + length))
}

/// How long the indented lines after the one with the byte `at` are.
fn block(text: &str, at: usize) -> usize {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let depth = indent(&text[line..]);
    let mut end = text[at..].find('\n').unwrap_or(text.len() - at);
    while let Some(next) = text[at + end..].strip_prefix('\n') {
        let next = next.split('\n').next().unwrap_or_default();
        if !next.trim().is_empty() && indent(next) <= depth {
            break;
        }
        end += 1 + next.len();
    }
    end
}

const HIDDEN: &str = "[hidden]";
/// Stands for [`HIDDEN`] until all is found: a bracket may end a value, and this character is in no text.
const PLACE: &str = "\u{fdd0}";
const SHORTEST_BASE64: usize = 16;
const HASHES: [&str; 9] = ["$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$7$", "$y$", "$argon2"];
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "token",
    "secret",
    "private_key",
    "private-key",
    "privatekey",
    "api_key",
    "apikey",
    "credential",
];
const QUOTES: [&str; 5] = ["\\\"", "\"", "'", "%22", "%27"];
const BLANKS: [&str; 3] = [" ", "\t", "%20"];
const ENDS: [&str; 14] =
    [" ", "\t", "\n", "\r", ",", "}", "]", "&", "\"", "'", "<", "\\n", "%0a", "%20"];
const NO_SECRETS: [&str; 7] = ["", "true", "false", "null", "yes", "no", "{"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_every_form_in_which_nodes_get_them() {
        let encoded = STANDARD.encode("user: admin\npassword: hunter22\n");
        let plain = STANDARD.encode("a text with nothing to hide in it");
        let gzip = STANDARD.encode([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]);
        for (text, expected) in [
            ("password: hunter2\nname: x", "password: [hidden]\nname: x"),
            ("  hashed_passwd: \"abc\" # x", "  hashed_passwd: \"[hidden]\" # x"),
            (
                "{\"passwordHash\":\"$6$a$b\",\"name\":\"core\"}",
                "{\"passwordHash\":\"[hidden]\",\"name\":\"core\"}",
            ),
            ("- x: $y$j9T$aB/c.$dEf1 rest", "- x: [hidden] rest"),
            ("quiet token=abc.def console=ttyS0", "quiet token=[hidden] console=ttyS0"),
            ("data:,K3S_TOKEN%3Dabc%0AOTHER%3D1", "data:,K3S_TOKEN%3D[hidden]%0AOTHER%3D1"),
            ("{\\\"client_secret\\\": \\\"x y\\\"}", "{\\\"client_secret\\\": \\\"[hidden]\\\"}"),
            ("http://me:pw@example.org/x", "http://me:[hidden]@example.org/x"),
            ("lock_passwd: false\nssh_pwauth: true", "lock_passwd: false\nssh_pwauth: true"),
            ("\"passwd\":{\"users\":[]}", "\"passwd\":{\"users\":[]}"),
            ("no secrets: here", "no secrets: [hidden]"),
            ("chpasswd:\n  list: |\n    root:x\nnext: 1", "chpasswd:[hidden]\nnext: 1"),
            ("api_key: |\n  abc\n  def\nnext: 1", "api_key: [hidden]\nnext: 1"),
        ] {
            assert_eq!(hide(text, &[]), expected, "{text}");
            assert_eq!(hide(expected, &[]), expected, "{text}");
        }
        let key =
            "a\n-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\nb";
        let shown =
            "a\n-----BEGIN OPENSSH PRIVATE KEY-----[hidden]-----END OPENSSH PRIVATE KEY-----\nb";
        assert_eq!(hide(key, &[]), shown);
        let url = |data: &str| format!("data:;base64,{data}\"");
        assert_eq!(hide(&url(&encoded), &[]), url(HIDDEN));
        assert_eq!(hide(&url(&gzip), &[]), url(HIDDEN));
        assert_eq!(hide(&url(&plain), &[]), url(&plain));
        let known = ["0123abcd".to_owned(), String::new()];
        assert_eq!(
            hide("https://discovery.etcd.io/0123abcd", &known),
            "https://discovery.etcd.io/[hidden]"
        );
    }

    #[test]
    fn a_public_key_is_no_secret() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Yk0r0k6m2m9Q3X8d5O5Vx1vQ6Jm9Qn0p1yq2Zr3s4 me@here";
        assert_eq!(hide(key, &[]), key);
    }
}
