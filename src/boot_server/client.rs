//! Asks the boot server of a lab, and listens to it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::blocking::Response;

use super::content::Content;
use super::events::KEEP_ALIVE;
use super::message::{Decoder, FORMAT, Message, Status};
use crate::http::nearby_client;
use crate::lab::Lab;

/// Talks to the boot server of a lab.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::blocking::Client,
    url: String,
    lab: uuid::Uuid,
}

/// What one hears of a boot server.
#[derive(Debug)]
pub enum Heard {
    /// A message of this lab's server.
    Message(Message),
    /// It does not answer, or is another lab's; it is asked again.
    Silence,
}

impl Client {
    /// A client of the lab's boot server, whether or not it runs.
    ///
    /// # Errors
    /// If there can be no HTTP client, which is a bug.
    pub fn new(lab: &Lab) -> Result<Self> {
        Ok(Self { http: http(ANSWER_TIMEOUT)?, url: lab.boot_url(), lab: lab.uuid })
    }

    /// The same by what the boot server is to give out.
    ///
    /// # Errors
    /// If there can be no HTTP client, which is a bug.
    pub(crate) fn of(content: &Content) -> Result<Self> {
        let url = format!("http://{}", SocketAddr::new(content.address, content.port));
        Ok(Self { http: http(ANSWER_TIMEOUT)?, url, lab: content.uuid })
    }

    /// What is known of the lab; `None` if this lab's boot server does not answer.
    pub fn status(&self) -> Option<Status> {
        let answer = self.http.get(format!("{}/status", self.url)).send().ok()?;
        let status: Status = answer.json().ok()?;
        (status.uuid == self.lab).then_some(status)
    }

    /// Whether the lab's boot server runs, but is of a virtlab that speaks otherwise.
    pub fn is_outdated(&self) -> bool {
        self.status().is_some_and(|status| status.format != FORMAT)
    }

    /// Listens until the receiver is dropped: all that is known first, and then each event once, whatever
    /// becomes of the connection or the server.
    ///
    /// # Errors
    /// If there can be no HTTP client, which is a bug.
    pub fn listen(&self) -> Result<mpsc::Receiver<Heard>> {
        // Its time limit is one for each read, and the server sends something every few seconds.
        let listening = Self { http: http(3 * KEEP_ALIVE)?, ..self.clone() };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || listening.run(&sender));
        Ok(receiver)
    }

    fn run(&self, sender: &mpsc::Sender<Heard>) {
        let mut last = None;
        loop {
            if let Ok(answer) = self.events(last) {
                let mut decoder = Decoder::default();
                let lines = BufReader::new(answer).lines().map_while(Result::ok);
                for message in lines.filter_map(|line| decoder.line(&line)) {
                    if matches!(&message, Message::Snapshot(status) if status.uuid != self.lab) {
                        break;
                    }
                    last = Some(message.id());
                    if sender.send(Heard::Message(message)).is_err() {
                        return;
                    }
                }
            }
            if sender.send(Heard::Silence).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    fn events(&self, last: Option<u64>) -> Result<Response> {
        let mut request = self.http.get(format!("{}/events", self.url));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().context("listening to the boot server")?;
        if !answer.status().is_success() {
            bail!("listening to the boot server: it answers {}", answer.status());
        }
        Ok(answer)
    }
}

fn http(timeout: Duration) -> Result<reqwest::blocking::Client> {
    nearby_client(timeout).build().context("making an HTTP client")
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Until a server that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(250);
