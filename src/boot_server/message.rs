//! What the boot server tells this host of its lab: `/status` and the messages of `/events`, and how those are put into
//! Server-Sent Events. <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::recorder::event::Event;
use super::recorder::timeline::Timeline;
use crate::lab::LabName;

/// What `/status` answers, and the first message of `/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of this format; 0 before there was one.
    #[serde(default)]
    pub format: u32,
    /// The lab.
    pub lab: LabName,
    /// The lab's UUID.
    pub uuid: Uuid,
    /// The version of the virtlab that serves.
    pub version: String,
    /// The number of the last event that this comes from.
    #[serde(default)]
    pub id: u64,
    /// What is known of the lab.
    #[serde(flatten)]
    pub timeline: Timeline,
}

/// What `/events` sends.
#[derive(Clone, Debug)]
pub enum Message {
    /// All that is known; what follows comes after it.
    Snapshot(Status),
    /// Something happened.
    Change(Event),
}

/// A change with the version of its format.
#[derive(Serialize, Deserialize)]
struct Change {
    format: u32,
    #[serde(flatten)]
    event: Event,
}

impl Message {
    /// The number of the last event that it tells of.
    pub fn id(&self) -> u64 {
        match self {
            Self::Snapshot(status) => status.id,
            Self::Change(event) => event.id,
        }
    }

    /// What it says, as JSON in one line.
    pub(crate) fn json(&self) -> String {
        let json = match self {
            Self::Snapshot(status) => serde_json::to_string(status),
            Self::Change(event) => {
                serde_json::to_string(&Change { format: FORMAT, event: event.clone() })
            }
        };
        json.expect("messages are plain data")
    }

    /// The message as a Server-Sent Event.
    pub(super) fn encode(&self) -> String {
        let kind = match self {
            Self::Snapshot(_) => SNAPSHOT,
            Self::Change(_) => CHANGE,
        };
        format!("event: {kind}\nid: {}\ndata: {}\n\n", self.id(), self.json())
    }
}

/// Puts the lines of a stream together to messages.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    kind: String,
    data: String,
}

impl Decoder {
    /// Takes a line without its end; gives a message if it is complete with it. Messages of kinds and formats that
    /// are not known are left out.
    pub(super) fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let Self { kind, data } = std::mem::take(self);
            return match kind.as_str() {
                SNAPSHOT => serde_json::from_str(&data).ok().map(Message::Snapshot),
                CHANGE => {
                    serde_json::from_str(&data).ok().map(|it: Change| Message::Change(it.event))
                }
                _ => None,
            };
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data.push_str(value),
            // The number is in the data as well, and a line that begins with a colon is for keeping the
            // connection alive.
            _ => {}
        }
        None
    }
}

/// The version of the format of all messages.
pub const FORMAT: u32 = 1;
const SNAPSHOT: &str = "snapshot";
const CHANGE: &str = "change";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_server::recorder::event::{Happening, StageReached};
    use crate::boot_server::stage::Stage;

    #[test]
    fn messages_are_read_as_they_were_sent_and_comments_are_left_out() {
        let what = Happening::Stage(StageReached::unasked(2, Stage::Ready));
        let change = Message::Change(Event { id: 41, at_ms: 5, what });
        let status = Status {
            format: FORMAT,
            lab: "demo".parse().unwrap(),
            uuid: Uuid::nil(),
            version: "1.0".to_owned(),
            id: 40,
            timeline: Timeline::default(),
        };
        let text =
            format!(":\n\n{}: alive\n\n{}", Message::Snapshot(status).encode(), change.encode());
        assert!(
            text.ends_with(
                "event: change\nid: 41\n\
                 data: {\"format\":1,\"id\":41,\"at_ms\":5,\"node\":2,\"stage\":\"ready\",\"bytes\":0}\n\n"
            ),
            "{text}"
        );
        let mut decoder = Decoder::default();
        let read: Vec<Message> = text.lines().filter_map(|line| decoder.line(line)).collect();
        let [Message::Snapshot(status), Message::Change(event)] = &read[..] else {
            panic!("{read:?}");
        };
        assert_eq!((status.id, event.id), (40, 41));
    }
}
