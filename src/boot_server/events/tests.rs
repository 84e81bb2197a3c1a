//! Listeners on a real socket, with the client that virtlab itself uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::Receiver;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::boot_server::client::{Client, Heard};
use crate::boot_server::connections::{Limits, serve_until};
use crate::boot_server::message::Message;
use crate::boot_server::recorder::event::{Happening, StageReached};
use crate::boot_server::stage::Stage;
use crate::boot_server::{Content, ServedNode, Server, router};
use crate::lab::Lab;
use crate::lab::tests::lab;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A lab whose boot server is on loopback.
fn loopback_lab(port: u16) -> Lab {
    let mut lab = lab(3);
    lab.spec.boot_address = "127.0.0.1".parse().unwrap();
    lab.spec.boot_port = port;
    lab
}

struct Running {
    server: Arc<Server>,
    end: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(lab: &Lab, journal: &Path) -> Self {
        let address = SocketAddr::new(lab.spec.boot_address, lab.spec.boot_port);
        let node = |node: crate::lab::Node| ServedNode {
            index: node.index,
            name: node.name,
            mac: node.mac,
            ip: node.ip.map(Into::into),
            voter: true,
            arguments: None,
            script: String::new(),
            config: String::new(),
        };
        let content = Content {
            lab: lab.name.clone(),
            uuid: lab.uuid,
            address: address.ip(),
            port: address.port(),
            nodes: lab.nodes().into_iter().map(node).collect(),
            files: BTreeMap::new(),
            config_type: String::new(),
            ssh_keys: Vec::new(),
            discovery_url: None,
            ready_when: None,
            interface: None,
            trust_claimed_mac: false,
            knock: false,
        };
        let server = Arc::new(Server::new(content, journal).unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let closing = Arc::clone(&server);
        let ended = async move {
            ended.await.unwrap();
            closing.close();
        };
        let app = router(Arc::clone(&server));
        let served = tokio::spawn(serve_until(listener, app, Limits::default(), ended));
        Self { server, end, served }
    }

    async fn stop(self) {
        self.end.send(()).unwrap();
        timeout(LONG, self.served).await.unwrap().unwrap();
    }

    fn reach(&self, node: u32, stage: Stage) {
        self.server.recorder().record(Happening::Stage(StageReached::unasked(node, stage)));
    }
}

/// The next message, whatever silence is before it.
async fn next(heard: Receiver<Heard>) -> (Message, Receiver<Heard>) {
    let wait = tokio::task::spawn_blocking(move || {
        loop {
            match heard.recv_timeout(LONG).unwrap() {
                Heard::Message(message) => return (message, heard),
                Heard::Silence => {}
            }
        }
    });
    wait.await.unwrap()
}

fn told(message: &Message) -> (u32, Stage) {
    match message {
        Message::Change(event) => match &event.what {
            Happening::Stage(reached) => (reached.node, reached.stage),
            other => panic!("{other:?}"),
        },
        Message::Snapshot(status) => panic!("{status:?}"),
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_each_event_once_whatever_becomes_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let lab = loopback_lab(free_port());
    let running = Running::start(&lab, &journal).await;
    running.reach(1, Stage::PowerOn);
    let listening = lab.clone();
    // The client is not for an async runtime.
    let listen = move || Client::new(&listening).unwrap().listen().unwrap();
    let heard = tokio::task::spawn_blocking(listen).await.unwrap();
    let (message, heard) = next(heard).await;
    let Message::Snapshot(status) = message else { panic!("{message:?}") };
    assert!(status.timeline.nodes[0].has(Stage::PowerOn));

    running.reach(1, Stage::Script);
    running.reach(2, Stage::PowerOn);
    let (message, heard) = next(heard).await;
    assert_eq!((told(&message), message.id()), ((1, Stage::Script), status.id + 1));
    let (message, heard) = next(heard).await;
    assert_eq!((told(&message), message.id()), ((2, Stage::PowerOn), status.id + 2));

    // What happens while nobody can listen is told afterwards.
    running.reach(2, Stage::Script);
    running.stop().await;
    let running = Running::start(&lab, &journal).await;
    running.reach(3, Stage::PowerOn);
    let (message, heard) = next(heard).await;
    assert_eq!((told(&message), message.id()), ((2, Stage::Script), status.id + 3));
    let (message, heard) = next(heard).await;
    assert_eq!((told(&message), message.id()), ((3, Stage::PowerOn), status.id + 4));

    // A journal that was lost takes all with it, and who listens is told so.
    running.stop().await;
    std::fs::remove_file(&journal).unwrap();
    let running = Running::start(&lab, &journal).await;
    let (message, heard) = next(heard).await;
    let Message::Snapshot(status) = message else { panic!("{message:?}") };
    assert_eq!(status.timeline.nodes[0].stage(), None);
    drop(heard);
    running.stop().await;
}
