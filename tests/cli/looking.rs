//! Looking into nodes, as far as libvirt's test driver goes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::{Value, json};

use crate::served::serve;
use crate::support::{RUNNING, User, assert_transcript};

#[test]
fn logs_and_consoles_that_cannot_be_had_are_refused_with_the_way_out() {
    let user = User::with_a_lab();
    assert_transcript!(
        "looking-refused",
        user.session(&[
            &["logs"],
            &["logs", "demo"],
            &["logs", "demo-3", "demo-1", "other"],
            &["logs", "demo", "--since", "yesterday"],
            &["console", "demo-1"],
            &["console", "demo-2"],
            &["console", "dem"],
        ])
    );
}

#[test]
fn a_page_that_nobody_serves_is_told_with_the_way_out() {
    let user = User::with_a_lab();
    assert_transcript!(
        "open-refused",
        user.session(&[
            &["open", "dem"],
            &["open", "demo"],
            &["open", "demo", "--no-browser"],
            &["open"],
            &["open", "-o", "json"],
        ])
    );
    // A boot server that knows nothing of a page, as this test's own process.
    let objects = fs::read_to_string(user.path().join("node.xml")).unwrap();
    let uuid = objects.split("\" uuid=\"").nth(1).unwrap().split('"').next().unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let pid = std::process::id();
    let mark = format!("{{\"pid\":{pid},\"start_ticks\":{started}}}");
    user.write(&format!(".local/state/virtlab/demo.{uuid}/serve.json"), &mark);
    let said = user.says(&["open", "demo"]).replace(&pid.to_string(), "[PID]");
    assert_transcript!("open-older", said);
}

#[test]
fn a_table_that_is_watched_follows_the_size_of_its_terminal_and_gives_it_back() {
    let user = served(20);
    let shown = user.path().join("shown");
    for (leave, colours, rows, columns) in [("q", true, 24, 80), ("\x03", false, 60, 200)] {
        let script = format!(
            "stty rows {rows} cols {columns}; tty; stty -g; {} status demo --watch; echo exit $?; stty -g",
            env!("CARGO_BIN_EXE_virtlab")
        );
        let mut command = user.program("script", "bsdutils");
        command.args(["-qec", &script, "/dev/null"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        if !colours {
            command.env("NO_COLOR", "1");
        }
        command.stdin(Stdio::piped()).stdout(fs::File::create(&shown).unwrap().into_file());
        let mut child = command.spawn().unwrap();
        let mut keys = child.stdin.take().unwrap();
        let said = || fs::read_to_string(&shown).unwrap();
        wait_until(&said, |said| said.contains("demo-20"));
        let picture = said();
        assert!(picture.contains("\x1b[?1049h\x1b[?25l"), "{picture:?}");
        let rows = plain(picture.rsplit("\x1b[H").next().unwrap());
        assert!(rows.starts_with("demo: 2 of 20 nodes ready (q leaves)\nNODE "), "{rows}");
        assert_eq!(rows.matches("\ndemo-").count(), 20, "{rows}");
        assert_eq!(picture.contains("\x1b[1mNODE "), colours, "{picture:?}");

        let tty = picture.lines().next().unwrap().trim();
        let stty = ["-F", tty, "rows", "6", "cols", "30"];
        assert!(Command::new("stty").args(stty).status().unwrap().success());
        wait_until(&said, |said| said.contains("and 17 more, at least as far"));
        let picture = said();
        let rows = plain(picture.rsplit("\x1b[H").next().unwrap());
        let expected = "demo: 2 of 20 nodes ready (q l\n\
                        NODE    IP           STATE   S\n\
                        demo-3  127.201.0.4  config  2\n\
                        demo-4  127.201.0.5  config  2\n\
                        demo-5  127.201.0.6  config  2\n\
                        and 17 more, at least as far";
        assert_eq!(rows.trim_end(), expected);
        // And back again.
        let stty = ["-F", tty, "rows", "24", "cols", "80"];
        assert!(Command::new("stty").args(stty).status().unwrap().success());
        wait_until(&said, |said| said.rsplit("\x1b[H").next().unwrap().contains("demo-20"));
        let rows = said();
        let rows = plain(rows.rsplit("\x1b[H").next().unwrap());
        assert!(rows.contains("nodes ready (q leaves)\n"), "{rows}");

        keys.write_all(leave.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let said = said();
        let lines: Vec<&str> = said.lines().collect();
        let [.., exit, after] = lines[..] else { panic!("{said}") };
        assert!(exit.ends_with("\x1b[?25h\x1b[?1049lexit 0"), "{exit:?}");
        // The terminal is set as before.
        assert_eq!(lines[1], after, "{said:?}");
    }
}

#[test]
fn who_waits_on_a_small_terminal_sees_the_nodes_that_are_most_behind() {
    let user = served(20);
    let own = env!("CARGO_BIN_EXE_virtlab");
    let script = format!("stty rows 8 cols 80; {own} wait demo --timeout 3s");
    let mut command = user.program("script", "bsdutils");
    command.args(["-qec", &script, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = plain(&String::from_utf8_lossy(&output.stdout));
    let (live, end) = said.split_once("error: ").unwrap();
    assert!(live.contains("2 of 20 nodes ready, 1s"), "{said}");
    assert!(live.contains("demo-3 script 2.5s  config 9.0s"), "{said}");
    assert!(live.contains("and 15 more, at least as far"), "{said}");
    assert!(!live.contains("demo-1 ") && !live.contains("demo-8 "), "{said}");
    assert!(end.starts_with("lab `demo` is not ready after 3.0s"), "{said}");
}

#[test]
fn what_is_no_terminal_is_not_drawn_on() {
    let user = served(1);
    assert_transcript!("watch-refused", user.says(&["status", "demo", "--watch"]));
}

/// A user with a lab of so many nodes, of which the first two are ready and the others nearly.
fn served(nodes: usize) -> User {
    let user = User::new();
    let stages = |index: usize| match index {
        0 | 1 => json!({"power-on": 0, "script": 2500, "config": 9000, "ready": 12000}),
        _ => json!({"power-on": 0, "script": 2500, "config": 9000}),
    };
    let stages: Value = (0..nodes).map(stages).collect();
    serve(&user, &user.lab("demo", &vec![RUNNING; nodes]), &stages);
    user
}

/// A picture without what drives the terminal.
fn plain(picture: &str) -> String {
    anstream::adapter::strip_str(picture).to_string().replace('\r', "")
}

#[track_caller]
fn wait_until(said: &dyn Fn() -> String, is_it: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_it(&said()) {
        assert!(Instant::now() < deadline, "{}", said());
        thread::sleep(Duration::from_millis(30));
    }
}
