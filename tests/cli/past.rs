//! Labs that earlier virtlabs made are listed, shown, completed, served and destroyed by this one.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::support::{RUNNING, SHUT_OFF, User, assert_transcript};

#[test]
fn a_lab_of_0_1_is_read_as_it_was_made() {
    let lab = OldLab::new([RUNNING, SHUT_OFF]);
    let user = &lab.user;
    let shown = user.session(&[
        &["list"],
        &["status", "old"],
        &["create", "old", "--dry-run"],
        &["create", "old", "--nodes", "3"],
        &["destroy", "old", "--dry-run"],
    ]);
    assert_transcript!("past-shown", shown.replace(&lab.port.to_string(), "[PORT]"));
}

#[test]
fn a_lab_of_0_1_is_served_again_and_destroyed() {
    let lab = OldLab::new([RUNNING, RUNNING]);
    let mut server = lab.user.virtlab(&["serve", "old"]).stderr(Stdio::null()).spawn().unwrap();
    // The journal that the earlier virtlab wrote goes on.
    let status = lab.served("/status");
    assert!(status.contains("1795509864753"), "{status}");
    let shown = lab.user.says(&["status", "old", "-q"]);
    assert!(shown.contains("old-1  10.201.0.2  initrd"), "{shown}");
    let destroyed = lab.user.says(&["destroy", "old"]);
    assert!(destroyed.contains("lab `old` is gone"), "{destroyed}");
    assert!(!lab.state().exists());
    server.wait().unwrap();
}

/// The lab `old` of `tests/fixtures/v0.1`, in a user's libvirt and state folder.
struct OldLab {
    user: User,
    port: u16,
}

impl OldLab {
    fn new(states: [&str; 2]) -> Self {
        let user = User::new();
        // The recorded gateway is no address of this computer, where the boot server could listen.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let here = |text: String| {
            text.replace("[HOME]", user.path().to_str().unwrap())
                .replace(
                    "\"boot_address\":\"10.201.0.1\",\"boot_port\":8470",
                    &format!("\"boot_address\":\"127.0.0.1\",\"boot_port\":{port}"),
                )
                .replace(
                    "\"address\":\"10.201.0.1\",\"port\":8470",
                    &format!("\"address\":\"127.0.0.1\",\"port\":{port}"),
                )
                .replace("http://10.201.0.1:8470/", &format!("http://127.0.0.1:{port}/"))
        };
        let domain = |(index, state): (usize, &&str)| {
            let xml = fixture(&format!("domain-{}.xml", index + 1));
            xml.replace("</domain>", &format!("{state}</domain>"))
        };
        let domains: String = states.iter().enumerate().map(domain).collect();
        let objects = format!("{}{}{domains}", fixture("network.xml"), fixture("pool.xml"));
        user.seed(&here(objects));
        for name in ["content.json", "serve.json", "timeline.jsonl"] {
            let text = here(fixture(&format!("state/{name}")));
            user.write(&format!(".local/state/virtlab/old/{name}"), &text);
        }
        Self { user, port }
    }

    fn state(&self) -> PathBuf {
        self.user.path().join(".local/state/virtlab/old")
    }

    /// What the boot server answers as soon as it listens.
    fn served(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let http = virtlab::http::nearby_client(Duration::from_secs(30)).build().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match http.get(&url).send() {
                Ok(answer) => return answer.text().unwrap(),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for OldLab {
    fn drop(&mut self) {
        // The boot server ends when its folder is gone.
        let _ = fs::remove_dir_all(self.state());
    }
}

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new("tests/fixtures/v0.1").join(name)).unwrap()
}
