//! The page of a lab in a real browser: Debian's chromium, which `tests/page/browser.mjs` drives.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{
    LabGuard, holds_within, missing, read, run, state_folder, virsh, virtlab, virtlab_command,
    wait_until,
};
use crate::wire::Server;

#[test]
fn a_browser_follows_the_boots_of_real_nodes_without_a_reload() {
    let mut browser = Browser::start();
    let _guard = LabGuard("demo");
    virtlab(&["create", "demo", "--nodes", "3", "--memory", "512MiB", "--no-wait"]).ok();
    let url = virtlab(&["open", "demo", "--print"]).ok();
    browser.open(url.trim(), WIDE, "light");
    browser.evaluate(NOTE_STAGES);
    let opened = browser.evaluate("Date.now()").as_u64().unwrap();
    browser.wait_for("three nodes that are ready", SUMMARY, |summary| {
        summary.as_str().unwrap().starts_with("3 of 3 nodes ready; etcd healthy, leader demo-")
    });
    assert_soon_after(opened, &browser.evaluate("window.noted"));
    assert_eq!(browser.evaluate("document.querySelector('#wrong').hidden"), true);
    browser.wait_for("a chart of the memory", CHART, |points| points.as_u64().unwrap() > 1);
    assert!(browser.evaluate(WEIGHT).as_u64().unwrap() <= MOST_BYTES);

    for (size, width) in [("wide", WIDE), ("narrow", NARROW)] {
        for scheme in ["light", "dark"] {
            browser.look(url.trim(), width, scheme, &format!("healthy-{size}-{scheme}"));
        }
    }
    what_a_guest_writes_is_text(&mut browser);
    a_verdict_is_drawn_while_it_is_made(&mut browser);

    virsh(&["destroy", "demo-2"]);
    browser.wait_for("a node that is off", STATE_OF_2, |state| state == "off");
    browser.wait_for("what to type", "document.querySelector('#wrong').innerText", |wrong| {
        wrong.as_str().unwrap().contains("virtlab start demo-2")
    });
    for (size, width) in [("wide", WIDE), ("narrow", NARROW)] {
        for scheme in ["light", "dark"] {
            browser.look(url.trim(), width, scheme, &format!("broken-{size}-{scheme}"));
        }
    }
    assert_eq!(browser.tell(&json!({"do": "complaints"})), json!([]));
}

/// On a console, opened and closed by the keyboard.
fn what_a_guest_writes_is_text(browser: &mut Browser) {
    let type_it = r#"(sleep 1; printf '\r'; sleep 1; printf "echo '<script>window.hack''ed=1</script><b>bold</b>'\r"; sleep 2) |
        timeout 20 script -qfc 'virsh console --force demo-1' /dev/null; true"#;
    browser.evaluate("document.querySelector('tr[data-index=\"1\"] button').focus()");
    browser.tell(&json!({"do": "press", "key": "Enter"}));
    let lines = "document.querySelector('#lines').textContent";
    wait_until("the text of a guest", PATIENCE, || {
        run("bash", &["-c", type_it]).ok();
        browser.evaluate(lines).as_str().unwrap().contains("<script>window.hacked=1</script><b>")
    });
    assert_eq!(browser.evaluate("document.querySelectorAll('#lines *').length"), 0);
    assert_eq!(browser.evaluate("'hacked' in window"), false);
    browser.axe();
    browser.picture("console");
    browser.tell(&json!({"do": "press", "key": "Escape"}));
    assert_eq!(browser.evaluate("document.querySelector('#console').hidden"), true);
    assert_eq!(browser.evaluate("document.activeElement.textContent"), "demo-1");
}

/// And it stays when it is made.
fn a_verdict_is_drawn_while_it_is_made(browser: &mut Browser) {
    assert_eq!(browser.evaluate("document.querySelector('#verdict').hidden"), true);
    let cut = ["fault", "cut", "demo", "follower", "--verdict", "--for", "12s"];
    let mut trial =
        virtlab_command(&cut).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let width = "document.querySelector('#verdict img').naturalWidth";
    browser.wait_for("a picture", width, |width| width == 960);
    assert!(trial.try_wait().unwrap().is_none(), "the verdict is made still");
    browser.wait_for("what is wrong", "document.querySelector('#wrong').innerText", |wrong| {
        let wrong = wrong.as_str().unwrap();
        wrong.contains("is cut off by a fault since ") && wrong.contains("virtlab heal demo")
    });
    let drawn = || std::fs::read_to_string(state_folder("demo").join("verdict.svg")).unwrap();
    assert!(drawn().contains(">broken</text>") && !drawn().contains("healthy again</text>"));
    browser.axe();
    browser.picture("verdict-live");
    assert!(trial.wait().unwrap().success());
    assert!(drawn().contains("healthy again</text>"));
    browser.axe();
    browser.picture("verdict");
}

/// Each stage that came while the page was open was on it within a second.
fn assert_soon_after(opened: u64, noted: &Value) {
    let journal = read(&state_folder("demo").join("timeline.jsonl"));
    let events = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // The last file of a stage.
    let mut reached = BTreeMap::new();
    for event in events {
        if let (Some(node), Some(stage)) = (event["node"].as_u64(), event["stage"].as_str()) {
            let first = reached.entry((node, stage.to_owned())).or_insert(u64::MAX);
            *first = event["at_ms"].as_u64().unwrap().min(*first);
        }
    }
    reached.retain(|_, at| *at > opened);
    for node in 1..=3 {
        for stage in ["initrd", "config", "ready"] {
            assert!(reached.contains_key(&(node, stage.to_owned())), "{node} {stage}: {reached:?}");
        }
    }
    let mut late = Vec::new();
    for ((node, stage), at) in &reached {
        let shown = noted[format!("{node} {stage}")].as_u64();
        println!("node {node}: {stage} after {:?} ms on the page", shown.map(|it| it - at));
        if shown.is_none_or(|shown| shown > at + MOST_LATE_MS) {
            late.push((node, stage, at, shown));
        }
    }
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn fifty_nodes_are_drawn_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let fifty = Fifty::write();
    // A libvirt that is not there: what the journal says is all that is known.
    let serve = virtlab_command(&["--connect", "test:///nowhere", "serve", "fifty"]);
    let log = folder.path().join("serve.log");
    let _server = Server::start(serve, &log);
    let page = state_folder("fifty").join("page.json");
    wait_until("a page", PATIENCE, || page.exists());
    let page: Value = serde_json::from_str(&read(&page)).unwrap();
    let text = |key: &str| page[key].as_str().unwrap().to_owned();
    let url = format!("http://127.0.0.1:{}/{}/?key={}", page["port"], text("path"), text("key"));

    let mut browser = Browser::start();
    browser.open(&url, WIDE, "light");
    browser.wait_for("fifty nodes", SUMMARY, |summary| {
        summary.as_str().unwrap().starts_with("0 of 50 nodes ready")
    });
    browser.evaluate(&MEASURE.replace("EVENTS", &fifty.rest.to_string()));
    let measured = loop {
        let measured = browser.evaluate("window.measured ?? null");
        if !measured.is_null() {
            break measured;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    println!("fifty nodes: {measured}");
    browser.wait_for("fifty nodes that are ready", SUMMARY, |summary| {
        summary.as_str().unwrap().starts_with("50 of 50 nodes ready")
    });
    // What it takes is in docs/page.md; here is only what would be felt on any computer.
    assert!(measured["draw_ms"]["p95"].as_f64().unwrap() < 100.0, "{measured}");
    browser.axe();
    browser.picture("fifty");
    browser.open(&url, NARROW, "dark");
    browser
        .wait_for("fifty nodes", SUMMARY, |summary| summary.as_str().unwrap().contains(" of 50 "));
    browser.axe();
    browser.picture("fifty-narrow-dark");
    assert_eq!(browser.tell(&json!({"do": "complaints"})), json!([]));
}

/// A lab of fifty nodes on paper: the journal of three real ones, over and over.
struct Fifty {
    folder: PathBuf,
    /// The events of the second half.
    rest: Value,
}

impl Fifty {
    fn write() -> Self {
        let recorded: Vec<Value> =
            RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let began = recorded.iter().filter_map(|event| event["at_ms"].as_u64()).min().unwrap();
        let now = u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let mut events = Vec::new();
        for node in 1..=50_u64 {
            let like = (node - 1) % 3 + 1;
            let mut after = 0;
            for event in recorded.iter().filter(|event| event["node"] == like) {
                let mut event = event.clone();
                event["node"] = json!(node);
                if event["from"].is_string() {
                    event["from"] = json!(format!("10.0.0.{}", node + 1));
                }
                // libvirt's times may be before what was seen first; the order is what counts.
                after = after.max(event["at_ms"].as_u64().unwrap() - began);
                // One begins after the other, and the last one ends now.
                event["at_ms"] = json!(now - 85_000 + after + 300 * node);
                events.push(event);
            }
        }
        events.sort_by_key(|event| event["at_ms"].as_u64());
        for (id, event) in (now..).zip(&mut events) {
            event["id"] = json!(id);
        }
        let mut rest = events.split_off(events.len() / 2);
        // The server may number something itself meanwhile.
        for event in &mut rest {
            event["id"] = json!(event["id"].as_u64().unwrap() + 1000);
        }

        let node = |index: u64| {
            json!({
                "index": index, "name": format!("fifty-{index}"), "mac": format!("52:54:00:00:00:{index:02x}"),
                "ip": format!("10.0.0.{}", index + 1), "arguments": null, "script": "", "config": "", "voter": true,
            })
        };
        let uuid = "2f0b1c9e-8a57-4f0c-9d3f-6a1f5f0e5050";
        let content = json!({
            "lab": "fifty", "uuid": uuid, "address": "127.0.0.50", "port": 8470,
            "nodes": (1..=50).map(node).collect::<Vec<_>>(), "files": {}, "config_type": "application/json",
        });
        let folder = state_folder("fifty").with_file_name(format!("fifty.{uuid}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("content.json"), content.to_string()).unwrap();
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        std::fs::write(folder.join("timeline.jsonl"), lines.join("\n") + "\n").unwrap();
        Self { folder, rest: json!(rest) }
    }
}

impl Drop for Fifty {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A browser without a window.
struct Browser {
    child: Child,
    /// Nothing when it is to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
        assert!(
            folder.join("node_modules").is_dir() && Path::new("/usr/bin/chromium").exists(),
            "chromium or what drives it is missing: `make e2e-full` installs both"
        );
        let child = Command::new("node")
            .arg(folder.join("browser.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| missing("node", &error));
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, commands, answers }
    }

    /// Has a command carried out, and gives what it came to.
    #[track_caller]
    fn tell(&mut self, command: &Value) -> Value {
        writeln!(self.commands.as_ref().unwrap(), "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"], Value::Null, "{command}");
        answer["value"].take()
    }

    /// Opens a page in a window of its own.
    fn open(&mut self, url: &str, (width, height): (u32, u32), scheme: &str) {
        let open =
            json!({"do": "open", "url": url, "width": width, "height": height, "scheme": scheme});
        self.tell(&open);
    }

    #[track_caller]
    fn evaluate(&mut self, code: &str) -> Value {
        self.tell(&json!({"do": "evaluate", "code": code}))
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, code: &str, is_it: impl Fn(&Value) -> bool) {
        let mut value = Value::Null;
        let came = holds_within(PATIENCE, || {
            value = self.evaluate(code);
            is_it(&value)
        });
        assert!(came, "{what}: {value}");
    }

    #[track_caller]
    fn axe(&mut self) {
        assert_eq!(self.tell(&json!({"do": "axe"})), json!([]));
    }

    /// A picture to be looked at, in cargo's folder for the files of tests.
    fn picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        std::fs::create_dir_all(&folder).unwrap();
        self.tell(&json!({"do": "picture", "file": folder.join(format!("{name}.png"))}));
    }

    /// Opens the page at a size and in a scheme, and looks whether it is fit for everybody. The window before stays current.
    fn look(&mut self, url: &str, size: (u32, u32), scheme: &str, name: &str) {
        self.open(url, size, scheme);
        self.wait_for("a look at the nodes", RESIDENT, |text| text != "-");
        self.wait_for("a look at etcd", MEMBERS, |members| *members == 3);
        let overflows = self.evaluate("document.documentElement.scrollWidth - innerWidth");
        assert!(overflows.as_i64().unwrap() <= 0, "{name}: {overflows} px too wide");
        self.axe();
        self.picture(name);
        self.tell(&json!({"do": "back"}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(300);
const WIDE: (u32, u32) = (1280, 800);
const NARROW: (u32, u32) = (360, 740);
const MOST_LATE_MS: u64 = 1000;
/// Of the page with all its parts, and the heads of the answers.
const MOST_BYTES: u64 = 60_000;
const RECORDED: &str = include_str!("../page/three.jsonl");

const SUMMARY: &str = "document.querySelector('#summary').textContent";
const STATE_OF_2: &str = "document.querySelector('tr[data-index=\"2\"] .state').textContent";
const RESIDENT: &str = "document.querySelector('#nodes tbody .number')?.textContent ?? '-'";
const MEMBERS: &str = "document.querySelectorAll('#etcd tbody tr').length";
/// How many measurements there are.
const CHART: &str = "lab.memory.length";
const WEIGHT: &str = "performance.getEntries().filter((it) => it.transferSize && !it.name.endsWith('/events') \
    && !it.name.endsWith('/labs')).reduce((all, it) => all + it.transferSize, 0)";

/// Notes when a stage comes to the bar of a node.
const NOTE_STAGES: &str = "window.noted = {};
    const note = () => {
        for (const row of document.querySelectorAll('#nodes tbody tr'))
            for (const part of row.querySelectorAll('.track i'))
                window.noted[`${row.dataset.index} ${part.classList[0]}`] ??= Date.now();
    };
    new MutationObserver(note).observe(document.querySelector('#nodes tbody'), { childList: true, subtree: true });
    note()";

/// Puts the rest of the events through the page's own listener, 100 a second, and measures frames and what the page draws in.
const MEASURE: &str = "(() => {
    const events = EVENTS, frames = [], drawn = [];
    const own = draw;
    draw = () => { const began = performance.now(); own(); drawn.push(performance.now() - began); };
    let last = performance.now(), done = false;
    const frame = (at) => { frames.push(at - last); last = at; if (!done) requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    const of = (all) => {
        all.sort((a, b) => a - b);
        const at = (part) => Number(all[Math.min(all.length - 1, Math.floor(all.length * part))].toFixed(1));
        return { count: all.length, median: at(0.5), p95: at(0.95), most: at(1) };
    };
    const feed = setInterval(() => {
        const event = events.shift();
        if (event) return source.dispatchEvent(new MessageEvent('change', { data: JSON.stringify(event) }));
        clearInterval(feed);
        done = true;
        window.measured = { frame_ms: of(frames), draw_ms: of(drawn) };
    }, 10);
})()";
