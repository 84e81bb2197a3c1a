//! What `--help` says about every command.

use crate::support::{User, assert_transcript, text, transcript};

#[test]
fn every_command_explains_itself_in_80_columns() {
    let user = User::new();
    let mut commands = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        let help = |flag: &'static str| {
            let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
            args.push(flag);
            transcript(user.virtlab(&args).env_remove("LIBVIRT_DEFAULT_URI"))
        };
        let (short, long) = (help("-h"), help("--help"));
        for line in short.lines().chain(long.lines()) {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
        for name in subcommands(&long) {
            commands.push(command.iter().cloned().chain([name]).collect());
        }
        let name = if command.is_empty() { "virtlab".to_owned() } else { command.join("-") };
        assert_transcript!(format!("help-{name}"), long);
        seen += 1;
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn the_version_is_told() {
    let user = User::new();
    assert_transcript!(
        "version",
        user.session(&[&["-V"], &["--version"], &["version"], &["version", "-o", "json"]])
    );
    let output = user.virtlab(&["-V"]).output().unwrap();
    assert_eq!(text(&output.stdout), format!("virtlab {}\n", env!("CARGO_PKG_VERSION")));
}

/// The names below `Commands:`, without `help`, which is clap's own.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(ToOwned::to_owned)
        .collect()
}
