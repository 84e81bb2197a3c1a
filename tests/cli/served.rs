//! A lab whose boot server says what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use crate::support::User;

/// Seeds the user's libvirt with `lab`, given as [`User::lab`] makes it, and is its boot server until the test ends.
/// `stages` has for each node what it reached, each with the milliseconds from power-on. The nodes get addresses of the
/// loopback network, so that nothing leaves this computer.
pub(crate) fn serve(user: &User, lab: &str, stages: &Value) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = format!("127.0.0.1\",\"boot_port\":{port}");
    let lab =
        lab.replace("10.201.0.1\",\"boot_port\":8470", &here).replace("10.201.0.", "127.201.0.");
    user.seed(&lab);
    let uuid = lab.split("\" uuid=\"").nth(1).unwrap().split('"').next().unwrap();
    let nodes = (1..).zip(stages.as_array().unwrap()).map(node).collect::<Vec<Value>>();
    let status = json!({
        "format": 1, "lab": "demo", "uuid": uuid, "version": "1.0.0", "id": 10, "nodes": nodes,
    });
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let status = status.to_string();
            thread::spawn(move || answer(stream, &status));
        }
    });
}

fn node((index, stages): (u32, &Value)) -> Value {
    let reached = |(stage, ms): (&String, &Value)| {
        (stage.clone(), json!({"at_ms": 1_800_000_000_000_u64 + ms.as_u64().unwrap(), "bytes": 5}))
    };
    let stages: serde_json::Map<String, Value> =
        stages.as_object().unwrap().iter().map(reached).collect();
    json!({
        "index": index,
        "name": format!("demo-{index}"),
        "mac": format!("52:54:00:2a:94:{index:02x}"),
        "ip": format!("127.201.0.{}", index + 1),
        "stages": stages,
    })
}

/// `/status`, and `/events` with the snapshot and nothing more until the client leaves.
/// <https://html.spec.whatwg.org/multipage/server-sent-events.html>
fn answer(mut stream: TcpStream, status: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type:";
    if request.contains(" /events ") {
        let message = format!("event: snapshot\nid: 10\ndata: {status}\n\n");
        let _ = write!(stream, "{head} text/event-stream\r\n\r\n{message}");
        lines.next();
    } else {
        let _ = write!(stream, "{head} application/json\r\n\r\n{status}");
    }
}
