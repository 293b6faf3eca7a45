//! HTTP/2 connections that the registry closes in the middle of an upload, politely and not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use blob_http::{Proxy, RetryPolicy, Transport, TransportOptions};
use blob_registry::client::RegistryClient;
use blob_registry::{PushedBlob, Registry};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::uploads::{NAME, blob, some_sessions};
use super::{noise, repository};
use blob_testkit::hostile::{Reply, Seen, Sessions};

/// How the first connection ends when half of the first body has come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It takes what is under way, and nothing more.
    GoAway,
    /// The registry answers the request under way with an error and goes.
    Refusal,
    /// It is gone.
    Abrupt,
}

/// A registry that speaks HTTP/2 and nothing else.
struct Registry2 {
    sessions: Sessions,
    end: End,
    connections: AtomicUsize,
    bodies: AtomicUsize,
}

impl Registry2 {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, half: Arc<Notify>) -> Response<Full<Bytes>> {
        let (parts, mut body) = request.into_parts();
        let announced = parts.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let announced: usize = announced.unwrap_or(0);
        let first = announced > 0 && self.bodies.fetch_add(1, Ordering::SeqCst) == 0;
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            // A body that breaks off is taken as far as it came, as registries do.
            let Ok(frame) = frame else { break };
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
            if first && bytes.len() >= announced / 2 {
                half.notify_one();
                match self.end {
                    End::GoAway => {}
                    End::Refusal => return Reply::new(503).into_response(),
                    End::Abrupt => {
                        self.sessions.answer(&Seen::of(&parts_as(&parts, "PATCH"), bytes));
                        return std::future::pending().await;
                    }
                }
            }
        }
        self.sessions.answer(&Seen::of(&parts, bytes)).into_response()
    }
}

/// The same request under another method: half of a PUT is kept, and commits nothing.
fn parts_as(parts: &http::request::Parts, method: &str) -> http::request::Parts {
    let mut parts = parts.clone();
    parts.method = method.parse().unwrap();
    parts
}

async fn serve(end: End) -> (Arc<Registry2>, String, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], secret).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    let (connections, bodies) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let registry = Arc::new(Registry2 { sessions: some_sessions(), end, connections, bodies });
    let far = Arc::clone(&registry);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(Arc::clone(&far), acceptor.clone(), stream));
        }
    });
    (registry, host, certificate.der().clone())
}

async fn connection(registry: Arc<Registry2>, acceptor: TlsAcceptor, stream: tokio::net::TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    registry.connections.fetch_add(1, Ordering::SeqCst);
    let (half, end) = (Arc::new(Notify::new()), registry.end);
    let seen = Arc::clone(&half);
    let service = service_fn(move |request| {
        let (registry, seen) = (Arc::clone(&registry), Arc::clone(&seen));
        async move { Ok::<_, Infallible>(registry.answer(request, seen).await) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = half.notified() => {}
    }
    if end != End::Abrupt {
        connection.as_mut().graceful_shutdown();
        // It ends when the requests under way did; whatever it says then is of no interest.
        let _ = connection.await;
    }
}

#[tokio::test]
async fn an_upload_survives_the_end_of_its_connection() {
    // One body that shares a connection with other requests, and one that would have its own if the registry had
    // HTTP/1.1.
    for (end, size) in [(End::GoAway, 3 << 20), (End::Refusal, 3 << 20), (End::Abrupt, 3 << 20), (End::GoAway, 6 << 20)]
    {
        let (registry, host, root) = serve(end).await;
        let options = TransportOptions::default()
            .with_proxy(Proxy::None)
            .with_idle_timeout(Duration::from_secs(20))
            .with_extra_root(root);
        let retry = RetryPolicy::default()
            .with_max_attempts(4)
            .with_backoff(Duration::from_millis(1), Duration::from_millis(2));
        let client = RegistryClient::builder(&host)
            .plain_http(false)
            .transport(Transport::new(options).unwrap())
            .retry(retry)
            .build()
            .unwrap();
        let content = noise(size);
        let pushed = client.push_blob(&repository(NAME), blob(&content)).await.unwrap();
        assert_eq!(pushed, PushedBlob::Uploaded, "{end:?}");
        assert!(registry.sessions.blobs().contains(&content), "{end:?}");
        // What comes next goes over another connection.
        let more = noise(size - 100_000);
        client.push_blob(&repository(NAME), blob(&more)).await.unwrap();
        assert!(registry.sessions.blobs().contains(&more), "{end:?}");
        assert_eq!(registry.connections.load(Ordering::SeqCst), 2, "{end:?}: the closed connection is not used again");
    }
}
