//! What a user gives the nodes to read about themselves, and whether it can be read: a mistake in it
//! is told here, in a second, and not by a node that does not come up, in five minutes.

mod butane;
mod check;
mod ssh_keys;

use std::io::Write;
use std::process::{Command, Output, Stdio};

pub use self::butane::{is_butane, to_ignition};
pub use self::check::validate;
pub use self::ssh_keys::keys_of_user;

/// Runs `command` with `input` on its standard input; `None` if there is no such program.
fn filter(command: &mut Command, input: &str) -> std::io::Result<Option<Output>> {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match pipes.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let output = std::thread::scope(|scope| {
        // One that ends without reading everything says itself why.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    Ok(Some(output))
}
