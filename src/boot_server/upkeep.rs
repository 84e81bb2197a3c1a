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
    // The first look may be at another file than the one that was read.
    let mut known = None;
    while folder.path.exists() {
        let now = identity(&folder.content);
        if now.is_some() && now != known {
            match Content::read(&folder.content) {
                Ok(content) if content.uuid != server.content().uuid => break,
                Ok(content) => {
                    tracing::debug!("giving out what {} holds now", folder.content.display());
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

#[cfg(test)]
mod tests {
    use fs_err as fs;
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Replaces what is given out, as `create` does it: in one step.
    fn write(folder: &Folder, config_type: &str, uuid: Uuid) {
        let text = format!(
            r#"{{"lab": "demo", "uuid": "{uuid}", "address": "127.0.0.1", "port": 1, "nodes": [],
                "files": {{}}, "config_type": "{config_type}"}}"#
        );
        let beside = folder.path.join("beside");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &folder.content).unwrap();
    }

    fn server(folder: &Folder) -> Arc<Server> {
        write(folder, "first", Uuid::nil());
        let content = Content::read(&folder.content).unwrap();
        Arc::new(Server::new(content, &folder.path.join("journal")).unwrap())
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_given_out_and_one_of_another_lab_ends_the_server() {
        let root = tempfile::tempdir().unwrap();
        let folder =
            Folder { path: root.path().to_owned(), content: root.path().join("content.json") };
        let server = server(&folder);
        let kept = tokio::spawn(until_gone(Arc::clone(&server), folder.clone()));
        let given_out = async |expected: &str| {
            while server.content().config_type != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        write(&folder, "second", Uuid::nil());
        timeout(LONG, given_out("second")).await.unwrap();
        // What cannot be read is left, and what comes after it is taken.
        fs::write(&folder.content, "{").unwrap();
        sleep(2 * CHECK).await;
        assert_eq!(server.content().config_type, "second");
        write(&folder, "third", Uuid::nil());
        timeout(LONG, given_out("third")).await.unwrap();
        write(&folder, "fourth", Uuid::max());
        timeout(LONG, kept).await.unwrap().unwrap();
        assert_eq!(server.content().config_type, "third");
    }

    #[tokio::test]
    async fn a_server_ends_with_its_labs_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("demo");
        fs::create_dir(&path).unwrap();
        let folder = Folder { content: path.join("content.json"), path: path.clone() };
        let kept = tokio::spawn(until_gone(server(&folder), folder));
        fs::remove_dir_all(path).unwrap();
        timeout(LONG, kept).await.unwrap().unwrap();
    }
}
