//! HTTP clients. The first one tells rustls, for all of this process, whose cryptography it uses.

use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder};
use rustls::crypto::{CryptoProvider, ring};

/// For servers anywhere: through the proxy that the environment names, with the certificates that this computer trusts.
pub(crate) fn client() -> ClientBuilder {
    if CryptoProvider::get_default().is_none() {
        // Another thread that was faster has installed the same one.
        let _ = ring::default_provider().install_default();
    }
    Client::builder()
}

/// For what answers without TLS on this computer or in its labs: no proxy, and no certificate is read.
/// It has [`ClientBuilder::timeout`].
pub fn nearby_client(timeout: Duration) -> ClientBuilder {
    client().no_proxy().tls_certs_only([]).timeout(timeout)
}
