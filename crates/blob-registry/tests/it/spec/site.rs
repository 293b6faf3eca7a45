//! A registry under test, wherever it is, and a client that knows HTTP and nothing of registries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_core::{Algorithm, Digest};
use blob_http::transport::{self, Proxy, Transport, TransportOptions};
use blob_registry::server::Auth;
use blob_registry::{
    Descriptor, ImageManifest, LayoutStore, MemoryRegistry, Registry, Server, ServerHandle, media_type,
};
use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, Request};
use serde_json::{Value, json};

pub(super) const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status is one of these.
    #[track_caller]
    pub(super) fn is(self, statuses: &[u16]) -> Self {
        assert!(statuses.contains(&self.status), "expected {statuses:?}, got {self:?}");
        self
    }

    /// The error has this code.
    #[track_caller]
    pub(super) fn says(&self, codes: &[&str]) {
        let code = self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned();
        assert!(codes.contains(&code.as_str()), "expected {codes:?}, got {self:?}");
    }

    #[track_caller]
    pub(super) fn location(&self) -> String {
        self.header("location").unwrap_or_else(|| panic!("no Location: {self:?}")).to_owned()
    }
}

/// A registry under test.
pub(super) struct Site {
    pub(super) name: String,
    /// Whether it is one of ours, so that what the specification leaves open is known.
    pub(super) ours: bool,
    pub(super) user: Option<(String, String)>,
    pub(super) algorithm: Algorithm,
    transport: Transport,
    url: String,
    tokens: Mutex<HashMap<String, String>>,
    _kept: Option<(ServerHandle, Option<tempfile::TempDir>)>,
}

/// Runs `test` on every site.
pub(super) async fn each(test: impl AsyncFn(&Site)) {
    for site in sites().await {
        // Shown by the test harness when the test fails.
        println!("on {}", site.name);
        test(&site).await;
    }
}

async fn sites() -> Vec<Site> {
    let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
    if let Ok(url) = std::env::var("BLOB_SPEC_URL") {
        let user = std::env::var("BLOB_SPEC_USER")
            .ok()
            .map(|user| (user, std::env::var("BLOB_SPEC_PASSWORD").unwrap_or_default()));
        let known = |algorithm: &Algorithm| {
            *algorithm == Algorithm::Sha256 || std::env::var_os("BLOB_SPEC_SHA512").is_some_and(|value| value == "1")
        };
        return algorithms
            .into_iter()
            .filter(known)
            .map(|algorithm| Site::elsewhere(&url, user.clone(), algorithm))
            .collect();
    }
    let user = |auth: Auth| Some(auth.user("ann", "correct horse"));
    let mut sites = Vec::new();
    for (store, scheme, algorithm) in [
        ("memory", "no", Algorithm::Sha256),
        ("memory", "basic", Algorithm::Sha512),
        ("layout", "bearer", Algorithm::Sha256),
        ("layout", "no", Algorithm::Sha512),
    ] {
        let auth = match scheme {
            "basic" => user(Auth::basic("spec")),
            "bearer" => user(Auth::bearer("spec")),
            _ => None,
        };
        let mut place = None;
        let registry: Arc<dyn Registry> = if store == "memory" {
            Arc::new(MemoryRegistry::new())
        } else {
            let directory = place.insert(tempfile::tempdir().unwrap());
            Arc::new(LayoutStore::open(directory.path()).await.unwrap())
        };
        let known = auth.as_ref().map(|_| ("ann".to_owned(), "correct horse".to_owned()));
        let builder = Server::builder(registry);
        let builder = match auth {
            Some(auth) => builder.auth(auth),
            None => builder,
        };
        let server = builder.bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr());
        let site = Site::elsewhere(&url, known, algorithm);
        let name = format!("{store}, {scheme} authentication, {}", algorithm.name());
        sites.push(Site { name, ours: true, _kept: Some((server, place)), ..site });
    }
    sites
}

impl Site {
    fn elsewhere(url: &str, user: Option<(String, String)>, algorithm: Algorithm) -> Self {
        let options = if url.contains("//127.0.0.1") || url.contains("//localhost") {
            TransportOptions::default().with_proxy(Proxy::None)
        } else {
            TransportOptions::default()
        };
        Self {
            name: format!("{url}, {}", algorithm.name()),
            ours: false,
            user,
            algorithm,
            transport: Transport::new(options).unwrap(),
            url: url.trim_end_matches('/').to_owned(),
            tokens: Mutex::default(),
            _kept: None,
        }
    }

    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        Digest::of(self.algorithm, bytes)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(super) async fn head(&self, path: &str) -> Answer {
        self.send("HEAD", path, &[], b"").await
    }

    /// Sends a request with what credentials it takes; `path` may be the URL of a `Location`.
    pub(super) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = self.raw(method, path, headers, body).await;
        let Some((user, password)) = self.user.as_ref().filter(|_| answer.status == 401) else { return answer };
        let challenge = answer.header("www-authenticate").expect("a challenge comes with 401").to_owned();
        let authorization = if challenge.to_ascii_lowercase().starts_with("basic") {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        } else {
            format!("Bearer {}", self.token(&challenge).await)
        };
        let mut headers = headers.to_vec();
        headers.push(("Authorization", &authorization));
        self.raw(method, path, &headers, body).await
    }

    /// Sends exactly this.
    pub(super) async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_empty() { transport::empty() } else { transport::full(body.to_vec()) };
        let response = self.transport.send(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body: BytesMut = body.into_stream().try_collect().await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_vec() }
    }

    async fn token(&self, challenge: &str) -> String {
        if let Some(token) = self.tokens.lock().unwrap().get(challenge) {
            return token.clone();
        }
        let member = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            Some(rest.split('"').next().unwrap_or_default().replace(' ', "%20"))
        };
        let scope = member("scope").map(|scope| format!("&scope={scope}")).unwrap_or_default();
        let service = member("service").unwrap_or_default();
        let url = format!("{}?service={service}{scope}", member("realm").unwrap());
        let (user, password) = self.user.as_ref().unwrap();
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let answer = self.raw("GET", &url, &[("Authorization", &authorization)], b"").await.is(&[200]).json();
        let token =
            answer.get("token").or_else(|| answer.get("access_token")).and_then(Value::as_str).unwrap().to_owned();
        self.tokens.lock().unwrap().insert(challenge.to_owned(), token.clone());
        token
    }

    /// Opens an upload session, and gives where it is.
    pub(super) async fn session(&self, repository: &str) -> String {
        let query = if self.algorithm == Algorithm::Sha512 { "?digest-algorithm=sha512" } else { "" };
        let path = format!("/v2/{repository}/blobs/uploads/{query}");
        self.send("POST", &path, &[], b"").await.is(&[202]).location()
    }

    /// Stores `bytes` as a blob.
    pub(super) async fn put(&self, repository: &str, bytes: &[u8]) -> Digest {
        let (session, digest) = (self.session(repository).await, self.digest(bytes));
        self.send("PUT", &with(&session, &format!("digest={digest}")), &[OCTETS], bytes).await.is(&[201]);
        digest
    }

    /// Descriptor of `bytes`, by the algorithm of this site.
    pub(super) fn descriptor(&self, kind: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(kind, self.digest(bytes), bytes.len() as u64)
    }

    /// A manifest whose blobs are stored; `mark` makes it different from others.
    pub(super) async fn image(&self, repository: &str, mark: &str, subject: Option<Descriptor>) -> Vec<u8> {
        self.put(repository, b"{}").await;
        self.put(repository, b"a layer").await;
        let layer = self.descriptor("application/vnd.oci.image.layer.v1.tar", b"a layer");
        let mut manifest = ImageManifest::artifact("application/vnd.spec.test", vec![layer]);
        manifest.config = self.descriptor(media_type::EMPTY, b"{}");
        manifest.annotations.insert("org.example.mark".into(), mark.into());
        manifest.subject = subject;
        manifest.to_bytes()
    }

    /// Stores a manifest under its digest.
    pub(super) async fn push(&self, repository: &str, kind: &str, bytes: &[u8]) -> Digest {
        let digest = self.digest(bytes);
        let path = format!("/v2/{repository}/manifests/{digest}");
        self.send("PUT", &path, &[("Content-Type", kind)], bytes).await.is(&[201]);
        digest
    }

    /// Stores a manifest under a tag.
    pub(super) async fn tag(&self, repository: &str, tag: &str, bytes: &[u8]) {
        let path = match self.algorithm {
            Algorithm::Sha512 => format!("/v2/{repository}/manifests/{}?tag={tag}", self.digest(bytes)),
            _ => format!("/v2/{repository}/manifests/{tag}"),
        };
        self.send("PUT", &path, &[("Content-Type", media_type::IMAGE_MANIFEST)], bytes).await.is(&[201]);
    }
}

/// A repository that nothing else uses.
pub(super) fn fresh() -> String {
    blob_registry::conformance::fresh_repository().to_string()
}

/// `url` with another member of its query.
pub(super) fn with(url: &str, member: &str) -> String {
    format!("{url}{}{member}", if url.contains('?') { '&' } else { '?' })
}

/// An index of `manifests`.
pub(super) fn index(manifests: &[Descriptor]) -> Vec<u8> {
    let document = json!({ "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": manifests });
    document.to_string().into_bytes()
}
