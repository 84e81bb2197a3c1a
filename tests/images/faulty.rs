//! An HTTP server that does what it is told, once for each connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What to do with one connection.
#[derive(Clone)]
pub(crate) enum Step {
    /// Send these bytes and close
    Send(Vec<u8>),
    /// Send nothing for a while
    Pause(Duration),
}

/// The server; when its answers are used up it no longer listens.
pub(crate) struct Faulty {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    /// Gives the n-th connection the n-th answer.
    pub(crate) fn start(answers: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let seen = Arc::clone(&seen);
                // What the client makes of it is the test's business, not whether it read it all.
                std::thread::spawn(move || serve(stream, &answer, &seen).ok());
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The heads of the requests so far, in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answer: &[Step], seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            break;
        }
    }
    seen.lock().unwrap().push(head.to_lowercase());
    for step in answer {
        match step {
            Step::Send(bytes) => stream.write_all(bytes)?,
            Step::Pause(time) => std::thread::sleep(*time),
        }
        stream.flush()?;
    }
    Ok(())
}

/// An answer with these header lines; `body` may be less than its length says.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<Step> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}
