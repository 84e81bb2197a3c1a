//! The promises of docs/architecture.md, read off the imports: no circle between files, no arrow that goes
//! up between rooms, and a few things that only one room may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fs_err as fs;

/// The rooms from the ground up. A file imports from its own room, from rooms on a lower floor, and from
/// those that stand before its own on the same floor.
const FLOORS: [&[&str]; 10] = [
    &["error", "units", "signals", "files", "deadline", "http", "output"],
    &["template", "packages", "loaders", "svg"],
    &["images"],
    &["lab"],
    &["host", "config", "render", "cluster"],
    &["ksm", "verdict"],
    &["memory"],
    &["cli", "hypervisor", "boot_server"],
    &[
        "waterfall",
        "state",
        "hint",
        "session",
        "doctor",
        "status",
        "completion",
        "provision",
        "page",
    ],
    &["commands", "main", "lib"],
];

#[test]
fn no_file_imports_in_a_circle() {
    let arrows = arrows(&sources());
    if let Some(circle) = circle(&arrows) {
        panic!("these files import each other in a circle: {}", circle.join(" -> "));
    }
}

#[test]
fn no_arrow_goes_up() {
    let wrong = upward(&arrows(&sources()));
    assert!(wrong.is_empty(), "arrows that go up:\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_that_is_turned_round_is_seen() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let tree = BTreeMap::from([
        source("src/commands/create.rs", "use crate::lab::{Lab, plan};"),
        source("src/lab/mod.rs", "pub mod plan;\nuse crate::commands::create;\npub struct Lab;"),
        source("src/lab/plan.rs", "use super::Lab;"),
    ]);
    let arrows = arrows(&tree);
    assert_eq!(upward(&arrows), ["src/lab/mod.rs -> src/commands/create.rs"]);
    assert!(circle(&arrows).is_some());
}

#[test]
fn rooms_keep_their_promises() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let mut refuse = |what: &str, word: &str| {
            let begins =
                |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if text.match_indices(word).any(|(at, _)| begins(at)) {
                broken.push(format!("{path}: {what} (`{word}`)"));
            }
        };
        let room = room_of(&path);
        if room != "hypervisor" {
            refuse("only hypervisor uses the virt crate", "virt::");
        }
        if room != "boot_server" {
            refuse("only boot_server has an async runtime", "tokio::");
        }
        if matches!(room, "lab" | "render") {
            for word in [
                "fs_err",
                "std::fs",
                "std::net::Tcp",
                "std::process",
                "SystemTime",
                "Instant",
                "new_v4",
            ] {
                refuse("lab and render do no I/O and know no clock and no chance", word);
            }
        }
        if room == "status" {
            refuse("status does not print", "printer");
        }
        if room == "cli" {
            refuse("cli has types only", "fn run(");
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Every source file without its tests, by its path.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                if !name.ends_with("tests.rs") && !name.contains("/tests/") {
                    sources.insert(name, without_tests(&fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    sources
}

/// The text before its tests, without comments.
fn without_tests(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// `src/lab/plan.rs` is in the room `lab`, `src/state.rs` is the room `state`.
fn room_of(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap();
    rest.split(['/', '.']).next().unwrap()
}

/// Who imports from whom, file to file.
fn arrows(sources: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut arrows = BTreeMap::new();
    for (path, text) in sources {
        let module = module_of(path);
        let mut targets = BTreeSet::new();
        for import in paths_in(text) {
            let Some(absolute) = absolute(&module, &import) else { continue };
            if let Some(target) = file_of(sources, &absolute) {
                targets.insert(target);
            }
        }
        targets.remove(path);
        arrows.insert(path.clone(), targets);
    }
    arrows
}

/// `src/lab/mod.rs` is `lab`, `src/lab/plan.rs` is `lab::plan`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
    let mut parts: Vec<String> = path.split('/').map(ToOwned::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Every path that begins at the crate or above this module: in `use` items, one for each name in braces,
/// and in the code. The way down to a module's own children is no arrow.
fn paths_in(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (position, _) in text.match_indices(start) {
            let before = text[..position].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            paths.extend(expand(&text[position..]));
        }
    }
    paths
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d` and `a::c::e`.
fn expand(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let (head, rest) = text.split_at(end);
    if !head.ends_with("::") || !rest.starts_with('{') {
        return vec![head.trim_end_matches(':').to_owned()];
    }
    let mut depth = 0;
    let mut items = vec![String::new()];
    for c in rest.chars() {
        match c {
            '{' if depth == 0 => depth = 1,
            '}' if depth == 1 => break,
            ',' if depth == 1 => items.push(String::new()),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
    items.flat_map(|item| expand(&format!("{head}{item}"))).collect()
}

/// A path from the crate's root, in its parts.
fn absolute(module: &[String], import: &str) -> Option<Vec<String>> {
    let mut parts: Vec<String> = import.split("::").map(ToOwned::to_owned).collect();
    let first = parts.remove(0);
    if first == "crate" {
        return Some(parts);
    }
    // `super` of a `mod.rs` is the room's parent, which `module_of` has as its last part.
    let mut whole = module.to_vec();
    whole.pop()?;
    while parts.first().is_some_and(|part| part == "super") {
        parts.remove(0);
        whole.pop()?;
    }
    whole.extend(parts);
    Some(whole)
}

/// The file that the longest beginning of a path is. A name that a `mod.rs` passes on is looked for in
/// the file that has it.
fn file_of(sources: &BTreeMap<String, String>, absolute: &[String]) -> Option<String> {
    for length in (1..=absolute.len()).rev() {
        let base = format!("src/{}", absolute[..length].join("/"));
        for path in [format!("{base}.rs"), format!("{base}/mod.rs")] {
            let Some(text) = sources.get(&path) else { continue };
            let name = absolute.get(length).map_or("", String::as_str);
            return Some(passed_on(sources, text, &absolute[..length], name).unwrap_or(path));
        }
    }
    None
}

/// Where `pub use` of a module's text takes `name` from.
fn passed_on(
    sources: &BTreeMap<String, String>,
    text: &str,
    module: &[String],
    name: &str,
) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    for item in text.split(';').map(str::trim_start) {
        let Some(start) = item.find("pub").filter(|at| item[..*at].trim().is_empty()) else {
            continue;
        };
        let item = &item[start..];
        let Some(at) = item.find("use ") else { continue };
        if item[..at].contains(['{', '=']) {
            continue;
        }
        let path = item[at + 4..].trim().trim_start_matches("self::");
        for path in expand(path) {
            if path.rsplit("::").next() != Some(name) || path.starts_with("crate::") {
                continue;
            }
            let mut whole = module.to_vec();
            whole.extend(path.split("::").map(ToOwned::to_owned));
            whole.pop();
            return file_of(sources, &whole);
        }
    }
    None
}

fn upward(arrows: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut wrong = Vec::new();
    for (from, targets) in arrows {
        for to in targets {
            let (a, b) = (room_of(from), room_of(to));
            let (Some(high), Some(low)) = (floor(a), floor(b)) else {
                wrong.push(format!("{from} -> {to}: a room that FLOORS does not name"));
                continue;
            };
            if high < low || (a != b && high == low && stands_before(a, b)) {
                wrong.push(format!("{from} -> {to}"));
            }
        }
    }
    wrong
}

/// Whether `a` stands before `b` on their floor: a room may import from those before it, not from those
/// behind it.
fn stands_before(a: &str, b: &str) -> bool {
    let rooms = FLOORS.iter().find(|rooms| rooms.contains(&a)).unwrap();
    let place = |room| rooms.iter().position(|other| *other == room);
    place(a) < place(b)
}

/// Some circle, if there is one.
fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    for start in arrows.keys() {
        let mut way = Vec::new();
        if let Some(circle) = walk(arrows, start, &mut way, &mut done) {
            return Some(circle);
        }
    }
    None
}

fn walk(
    arrows: &BTreeMap<String, BTreeSet<String>>,
    at: &String,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|seen| seen == at) {
        let mut circle = way[start..].to_vec();
        circle.push(at.clone());
        return Some(circle);
    }
    if !done.insert(at.clone()) {
        return None;
    }
    way.push(at.clone());
    for next in arrows.get(at).into_iter().flatten() {
        if let Some(circle) = walk(arrows, next, way, done) {
            return Some(circle);
        }
    }
    way.pop();
    None
}
