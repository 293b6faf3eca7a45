//! The server over TLS.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blob_http::transport::{ClientIdentity, Proxy, Transport, TransportOptions};
use blob_registry::client::{Credential, RegistryClient, Static};
use blob_registry::server::{Auth, ServerLimits, Tls, TlsError};
use blob_registry::{MemoryRegistry, Registry, Repository, Server, ServerHandle};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::rustls;

use super::blob;
use crate::wire::Wire;

/// An authority that signs for tests.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    /// A certificate for `name` with its key, both in PEM form.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }

    /// Writes `cert.pem` and `key.pem`.
    fn write(&self, name: &str, place: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
        let (certificate, key) = self.sign(name);
        let paths = (place.join("cert.pem"), place.join("key.pem"));
        fs::write(&paths.0, certificate).unwrap();
        fs::write(&paths.1, key).unwrap();
        paths
    }
}

fn client(server: &ServerHandle, options: TransportOptions) -> RegistryClient {
    let host = format!("localhost:{}", server.local_addr().port());
    let options = options.with_proxy(Proxy::None);
    let transport = Transport::new(options).unwrap();
    let user = Static::new().with(host.clone(), Credential::basic("ann", "p"));
    RegistryClient::builder(host).plain_http(false).transport(transport).credentials(user).build().unwrap()
}

#[tokio::test]
async fn clients_that_trust_the_authority_get_in_with_one_protocol_or_the_other() {
    let place = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.write("localhost", place.path());
    let registry = MemoryRegistry::new();
    let digest = blob(&registry, "a", b"hello").await;
    for auth in [Auth::basic("test"), Auth::bearer("test")] {
        let tls = Tls::from_pem_files(&certificate, &key).unwrap();
        let builder = Server::builder(Arc::new(registry.clone())).tls(tls).auth(auth.user("ann", "p"));
        let server = builder.bind("127.0.0.1:0").await.unwrap();
        let name = Repository::new("a").unwrap();
        for http2 in [false, true] {
            let options = TransportOptions::default().with_extra_root(authority.root()).with_http2(http2);
            assert_eq!(client(&server, options).stat_blob(&name, &digest).await.unwrap(), 5);
        }
        let stranger = client(&server, TransportOptions::default());
        stranger.stat_blob(&name, &digest).await.unwrap_err();
        // Without TLS one is told.
        let answer = Wire(server.local_addr()).get("/v2/").await;
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8(answer.body).unwrap().contains("HTTPS"));
        server.shutdown().await;
    }
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_authority_stay_out() {
    let place = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.write("localhost", place.path());
    let clients = Authority::new();
    let ca = place.path().join("clients.pem");
    fs::write(&ca, &clients.pem).unwrap();
    let registry = MemoryRegistry::new();
    let digest = blob(&registry, "a", b"hello").await;
    let tls = Tls::with_client_ca(&certificate, &key, &ca).unwrap();
    let server = Server::builder(Arc::new(registry)).tls(tls).bind("127.0.0.1:0").await.unwrap();
    let name = Repository::new("a").unwrap();
    let identity = |authority: &Authority| {
        let (certificate, key) = authority.sign("somebody");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        ClientIdentity::new(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
    };
    let options = || TransportOptions::default().with_extra_root(authority.root());
    let known = client(&server, options().with_client_identity(identity(&clients)));
    assert_eq!(known.stat_blob(&name, &digest).await.unwrap(), 5);
    let forged = client(&server, options().with_client_identity(identity(&authority)));
    forged.stat_blob(&name, &digest).await.unwrap_err();
    client(&server, options()).stat_blob(&name, &digest).await.unwrap_err();
}

#[test]
fn files_that_do_not_fit_are_named() {
    let place = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.write("localhost", place.path());
    let other = place.path().join("other.pem");
    fs::write(&other, authority.sign("localhost").1).unwrap();
    let refused = |certificate: &Path, key: &Path| Tls::from_pem_files(certificate, key).unwrap_err();
    assert!(matches!(refused(&certificate, &other), TlsError::Pair { .. }));
    assert!(matches!(refused(&key, &key), TlsError::Content { expected: "certificates", .. }));
    assert!(matches!(refused(&certificate, &certificate), TlsError::Content { .. }));
    assert!(matches!(refused(&certificate, &place.path().join("absent")), TlsError::Io { .. }));
}

#[tokio::test]
async fn clients_that_take_nothing_are_dropped_wherever_the_answer_stands() {
    const CLIENTS: usize = 128;
    let place = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.write("localhost", place.path());
    let registry = MemoryRegistry::new();
    let content: &'static [u8] = Box::leak(vec![7_u8; 8 << 20].into_boxed_slice());
    let digest = blob(&registry, "a", content).await;
    let mut limits = ServerLimits::default();
    limits.idle_timeout = Duration::from_millis(500);
    limits.max_connections = CLIENTS;
    let tls = Tls::from_pem_files(&certificate, &key).unwrap();
    let builder = Server::builder(Arc::new(registry)).tls(tls).limits(limits);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stalled = Vec::new();
    // What the kernel takes is not known beforehand: some of these end while TLS still holds the last bytes.
    for last in (1..=CLIENTS).map(|step| step * 48 * 1024) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(server.local_addr()).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let head = format!(
            "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{last}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    // No place is left until they are gone, each and every one.
    let mut served = Vec::new();
    let serving = async {
        for _ in 0..CLIENTS {
            let stream = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            served.push(stream);
        }
    };
    tokio::time::timeout(Duration::from_mins(1), serving).await.expect("all places are free again");
    assert_eq!((served.len(), stalled.len()), (CLIENTS, CLIENTS));
}

/// The contract of the trait holds through TLS, tokens and a store on disk.
mod conformance {
    use std::sync::Arc;

    use blob_http::transport::TransportOptions;
    use blob_registry::server::{Auth, Tls};
    use blob_registry::{LayoutStore, Registry, Server};

    blob_registry::registry_conformance!(async || {
        let place = tempfile::tempdir().unwrap();
        let authority = super::Authority::new();
        let (certificate, key) = authority.write("localhost", place.path());
        let store = LayoutStore::open(place.path().join("store")).await.unwrap();
        let builder = Server::builder(Arc::new(store)).auth(Auth::bearer("test").user("ann", "p"));
        let server = builder.tls(Tls::from_pem_files(certificate, key).unwrap()).bind("127.0.0.1:0").await.unwrap();
        let options = TransportOptions::default().with_extra_root(authority.root());
        (Arc::new(super::client(&server, options)) as Arc<dyn Registry>, (server, place))
    });
}
