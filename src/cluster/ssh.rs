//! Whether nodes answer ssh.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::on_each;

/// Whether an SSH server greets at port 22 of each address (RFC 4253, 4.2: it begins with `SSH-`).
/// All are asked at the same time and have two seconds to answer.
pub fn answer(ips: &[IpAddr]) -> Vec<bool> {
    on_each(ips, |ip| greets(SocketAddr::new(*ip, PORT)))
}

fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, TIMEOUT) else { return false };
    let mut greeting = [0; 4];
    stream.set_read_timeout(Some(TIMEOUT)).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"SSH-"
}

const PORT: u16 = 22;
const TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_ssh_server_is_known_by_its_greeting() {
        for (greeting, expected) in [("SSH-2.0-x\r\n", true), ("220 smtp\r\n", false), ("", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(greeting.as_bytes()).unwrap();
            });
            assert_eq!(greets(address), expected, "{greeting}");
            server.join().unwrap();
            assert!(!greets(address), "nobody listens any more");
        }
    }
}
