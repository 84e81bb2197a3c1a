//! A real nginx, over http and https, in a folder of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::run;

/// nginx serving the folder `files`; it ends with this value.
pub(crate) struct Nginx {
    folder: TempDir,
    child: Child,
    http: u16,
    https: u16,
}

impl Nginx {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("files")).unwrap();
        authority(root);
        let (http, https) = (free_port(), free_port());
        let root_text = root.display();
        let config = format!(
            "daemon off; master_process off; pid {root_text}/pid;
             error_log {root_text}/error.log info;
             events {{}}
             http {{
                 access_log {root_text}/access.log;
                 client_body_temp_path {root_text}/t1; proxy_temp_path {root_text}/t2;
                 fastcgi_temp_path {root_text}/t3; uwsgi_temp_path {root_text}/t4;
                 scgi_temp_path {root_text}/t5;
                 ssl_certificate {root_text}/server.pem; ssl_certificate_key {root_text}/server.key;
                 server {{
                     listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;
                     root {root_text}/files;
                     location /no-ranges/ {{ max_ranges 0; alias {root_text}/files/; }}
                     location /downgrade/ {{ return 302 http://127.0.0.1:{http}/plain; }}
                     location /busy/ {{ return 503; }}
                 }}
             }}"
        );
        fs::write(root.join("nginx.conf"), config).unwrap();
        // An ordinary user of Debian has no `sbin` in the PATH.
        let path = std::env::var("PATH").unwrap_or_default();
        let spawned = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin"))
            .arg("-p")
            .arg(root)
            .arg("-c")
            .arg(root.join("nginx.conf"))
            .arg("-e")
            .arg(root.join("error.log"))
            .stdin(Stdio::null())
            .spawn();
        let child = match spawned {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                panic!("this test needs `nginx`: install the package `nginx-light`")
            }
            child => child.unwrap(),
        };
        let nginx = Self { folder, child, http, https };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", https)).is_err() {
            let log = fs::read_to_string(nginx.folder.path().join("error.log"));
            assert!(Instant::now() < deadline, "nginx does not listen: {log:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        nginx
    }

    /// Puts a file below the root.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.path().join("files").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.folder.path().join("files").join(path)).unwrap();
    }

    pub(crate) fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    pub(crate) fn https(&self) -> String {
        format!("https://localhost:{}", self.https)
    }

    /// The certificate of the authority that vouches for it.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The requests so far: method, path and status.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        let short = |line: &str| {
            let fields: Vec<&str> = line.split('"').collect();
            let request: Vec<&str> = fields[1].split(' ').collect();
            let status = fields[2].trim().split(' ').next().unwrap();
            format!("{} {} {status}", request[0], request[1])
        };
        log.lines().map(short).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A certificate authority, and a certificate for `localhost` by it.
fn authority(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        run("openssl", Command::new("openssl").current_dir(folder).args(arguments));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let common = |rest: &[&'static str]| [&["req", "-x509"], &key[..], rest].concat();
    openssl(&common(&["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=virtlab test CA"]));
    openssl(&common(&[
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]));
}
