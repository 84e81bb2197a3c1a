//! The man pages say what the command line takes.

use std::fs;

use clap::{Command, CommandFactory};
use virtlab::cli::Cli;

#[allow(dead_code)]
#[path = "../scripts/man.rs"]
mod man;

#[test]
fn each_command_has_a_page_with_all_its_flags() {
    let folder = tempfile::tempdir().unwrap();
    man::write_pages(folder.path()).unwrap();
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut commands = vec![(root, "virtlab".to_owned())];
    let mut expected = Vec::new();
    while let Some((command, name)) = commands.pop() {
        let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
        assert!(page.starts_with(".ie") && page.contains(".SH NAME\n"), "{name}: {page}");
        for flag in flags(&command) {
            // A hyphen is written so that it can be copied from the page.
            let written = flag.replace('-', "\\-");
            assert!(page.contains(&written), "{name}: {flag} is not in {page}");
        }
        let below = command.get_subcommands().cloned();
        commands.extend(below.map(|it| {
            let below = format!("{name}-{}", it.get_name());
            (it, below)
        }));
        expected.push(format!("{name}.1"));
    }
    let mut there: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    expected.sort();
    assert_eq!(there, expected);
}

fn flags(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    shown.filter_map(|argument| argument.get_long().map(|long| format!("--{long}"))).collect()
}
