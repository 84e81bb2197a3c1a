//! What of a node's boot the boot server sees, and so from when on the node itself can be asked whether it is ready.

use serde::{Deserialize, Serialize};

use super::boot::Transport;
use super::spec::ConfigSource;
use super::{Lab, Network};
use crate::images::Readiness;

/// When a node counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyWhen {
    /// The image's criterion, or the user's own.
    pub criterion: Readiness,
    /// Whom commands that tell it are run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What must have been seen before the node is asked.
    pub after: LastSeen,
    /// Another server may give the nodes everything, of which nothing is seen.
    pub maybe_elsewhere: bool,
}

/// The last thing of a boot that the boot server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastSeen {
    /// That the node was let run: what goes by TFTP is not seen.
    PowerOn,
    /// The files of the image, all of them: the image asks for no config.
    Files,
    /// The config.
    Config,
}

impl ReadyWhen {
    /// When the nodes of a lab count as ready.
    pub fn of(lab: &Lab) -> Self {
        let spec = &lab.spec;
        let after = match (spec.config == ConfigSource::None, spec.boot.transport) {
            (false, _) => LastSeen::Config,
            (true, Transport::Http) => LastSeen::Files,
            (true, Transport::Tftp) => LastSeen::PowerOn,
        };
        let is_foreign = !matches!(spec.network, Network::Managed(_));
        let maybe_elsewhere = is_foreign && spec.ready != Readiness::Config;
        let (criterion, user) = (spec.ready.clone(), spec.ready_user.clone());
        Self { criterion, user, after, maybe_elsewhere }
    }
}
