//! TLS: whom we trust, and that HTTP/2 works.

use std::sync::Arc;

use blob_core::FailureKind;
use blob_http::{ClientIdentity, HttpError, HttpSource, OriginOptions, Transport, TransportOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::server::honest;
use crate::{content, options, read, source_options};
use blob_testkit::hostile::Server;

/// A throw-away authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// A server for `name`; with `clients`, only for whoever that authority knows.
    pub(crate) fn acceptor(&self, name: &str, h2: bool, clients: Option<&Self>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.root()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (certificate, key) = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if h2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn open(server: &Server, options: TransportOptions) -> Result<HttpSource, HttpError> {
    let transport = Transport::new(options).unwrap();
    HttpSource::open(transport, server.url.clone(), source_options()).await
}

#[tokio::test]
async fn an_own_authority_is_trusted_only_when_given() {
    let authority = Authority::new();
    let bytes = content(100_000);
    for h2 in [true, false] {
        let script = {
            let bytes = bytes.clone();
            move |_: usize, seen: &_| honest(&bytes, seen)
        };
        let server = Server::start_tls(authority.acceptor("localhost", h2, None), script).await;
        let source = open(&server, options().with_extra_root(authority.root())).await.unwrap();
        assert_eq!(read(&source, 5, 90_000).await.unwrap(), bytes.slice(5..90_000));
        assert_eq!((server.requests(), server.connections()), (2, 1));

        for distrustful in [options(), options().with_extra_root(Authority::new().root())] {
            let error = open(&server, distrustful).await.unwrap_err();
            assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
            assert_eq!((error.is_transient(), error.kind()), (false, FailureKind::Protocol));
        }
        assert_eq!(server.requests(), 2, "nothing was asked of a server that is not trusted");
        let alone = options().with_extra_root(authority.root()).with_system_roots(false);
        assert!(open(&server, alone).await.is_ok());
        let nobody = Transport::new(options().with_system_roots(false));
        assert!(matches!(nobody, Err(HttpError::Options { .. })), "without any root nobody can be trusted");
        assert!(open(&server, options().with_danger_accept_invalid_certs(true)).await.is_ok());
    }
}

#[tokio::test]
async fn http2_can_be_left_out() {
    let authority = Authority::new();
    let server =
        Server::start_tls(authority.acceptor("localhost", true, None), |_, seen| honest(&content(10), seen)).await;
    for (http2, version) in [(true, http::Version::HTTP_2), (false, http::Version::HTTP_11)] {
        let transport = Transport::new(options().with_extra_root(authority.root()).with_http2(http2)).unwrap();
        let request = http::Request::get(server.url.as_str()).body(blob_http::empty()).unwrap();
        assert_eq!(transport.send(request).await.unwrap().version(), version);
    }
}

#[tokio::test]
async fn bulk_has_connections_of_its_own() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("localhost", true, None);
    let server = Server::start_tls(acceptor, |_, seen| honest(&content(10), seen)).await;
    let transport = Transport::new(options().with_extra_root(authority.root())).unwrap();
    for (bulk, version, connections) in [
        (false, http::Version::HTTP_2, 1),
        (true, http::Version::HTTP_11, 2),
        (false, http::Version::HTTP_2, 2),
        (true, http::Version::HTTP_11, 2),
    ] {
        let mut request = http::Request::get(server.url.as_str()).body(blob_http::empty()).unwrap();
        if bulk {
            request.extensions_mut().insert(blob_http::Bulk);
        }
        let response = transport.send(request).await.unwrap();
        assert_eq!(response.version(), version);
        response.into_body().collect(100).await.unwrap();
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server =
        Server::start_tls(authority.acceptor("other.test", false, None), |_, seen| honest(&content(10), seen)).await;
    let error = open(&server, options().with_extra_root(authority.root())).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_shows_its_certificate_when_asked() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let acceptor = servers.acceptor("localhost", false, Some(&clients));
    let server = Server::start_tls(acceptor, |_, seen| honest(&content(10), seen)).await;
    let trusting = options().with_extra_root(servers.root());
    assert!(open(&server, trusting.clone()).await.is_err());
    let (certificate, key) = clients.issue("client.test", ExtendedKeyUsagePurpose::ClientAuth);
    let identity = ClientIdentity::new(vec![certificate], key);
    assert!(open(&server, trusting.with_client_identity(identity)).await.is_ok());
}

#[tokio::test]
async fn what_is_for_one_origin_is_for_no_other() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let script = |_: usize, seen: &_| honest(&content(10), seen);
    let start = || Server::start_tls(servers.acceptor("localhost", false, Some(&clients)), script);
    let (own, other) = (start().await, start().await);
    let (certificate, key) = clients.issue("client.test", ExtendedKeyUsagePurpose::ClientAuth);
    let mut origin = OriginOptions::new(own.url.clone());
    origin.client_identity = Some(ClientIdentity::new(vec![certificate], key));
    let shown = options().with_extra_root(servers.root()).with_origin(origin.clone());
    assert!(open(&own, shown.clone()).await.is_ok());
    assert!(open(&other, shown).await.is_err(), "another port is another origin, which sees no certificate");

    origin.danger_accept_invalid_certs = true;
    let blind = options().with_origin(origin);
    assert!(open(&own, blind.clone()).await.is_ok());
    let error = open(&other, blind).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
}
