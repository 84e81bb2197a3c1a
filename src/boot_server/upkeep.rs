//! What the server looks at once a second: whether its lab's folder is still there, and whether there is something new to
//! give out. Files can be replaced whoever runs and whoever was killed, so no other way of telling is needed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::content::Content;
use super::server::Server;

/// Where a lab's boot server finds what it needs.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The lab's folder: without it, the lab is gone.
    pub path: PathBuf,
    /// What is given out.
    pub content: PathBuf,
}

/// Gives out what the folder holds until the folder is gone or belongs to another lab: a server whose lab was
/// destroyed must not outlive it.
pub(super) async fn until_gone(server: Arc<Server>, folder: Folder) {
    let mut known = identity(&folder.content);
    while folder.path.exists() {
        let now = identity(&folder.content);
        if now.is_some() && now != known {
            match Content::read(&folder.content) {
                Ok(content) if content.uuid != server.content().uuid => break,
                Ok(content) => {
                    tracing::info!("there is something new to give out");
                    server.replace_content(content);
                }
                Err(error) => tracing::error!("going on with what there was: {error:#}"),
            }
            known = now;
        }
        sleep(CHECK).await;
    }
    tracing::info!("the lab is gone, and so am I");
}

/// What tells a file from the one that was there before it.
fn identity(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

const CHECK: Duration = Duration::from_secs(1);
