//! What is particular about one registry: certificates, client certificates, headers, mirrors.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_http::{Proxy, RetryPolicy, TransportOptions};
use blob_registry::client::{
    Admission, CertificateDirs, Credential, Mirror, Mirrored, RegistryClient, RegistryClientBuilder, RegistryOptions,
    Static,
};
use blob_registry::{
    ErrorCode, ImageManifest, MemoryRegistry, PageRequest, PushBlob, PushManifest, Registry, RegistryExt as _,
    Repository, Server, ServerHandle, media_type,
};
use blob_testkit::peers::{DockerRegistry, Security, require};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use super::{builder, by_tag, client, noise, repository, tag, whole};
use blob_testkit::hostile::{Reply, Script};

const NAME: &str = "team/app";

/// A throw-away authority whose certificates lie in files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, files }
    }

    /// The file with the authority's own certificate.
    fn file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// Certificate and key, in PEM.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// The files of a client's certificate and key.
    fn client(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue("client.test", ExtendedKeyUsagePurpose::ClientAuth);
        let paths = (self.files.path().join("client.pem"), self.files.path().join("client.key"));
        std::fs::write(&paths.0, certificate).unwrap();
        std::fs::write(&paths.1, key).unwrap();
        paths
    }
}

/// A client that makes its own transport of `options`.
fn secure(host: &str, options: RegistryOptions) -> RegistryClientBuilder {
    let options = options.with_proxy(Proxy::None);
    RegistryClient::builder(host).options(options.with_plain_http(false)).retry(RetryPolicy::never())
}

fn ann(host: &str, password: &str) -> Static {
    Static::new().with(host, Credential::basic("ann", password))
}

#[tokio::test]
async fn a_registry_with_its_own_authority_and_passwords() {
    let authority = Authority::new();
    let security = Security {
        htpasswd: Some(Security::ANN.into()),
        tls: Some(authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth)),
        client_authority: None,
    };
    let Some(registry) = require("docker-registry", DockerRegistry::start_with(&security)) else { return };
    let host = format!("localhost:{}", registry.addr().port());
    let trusting = RegistryOptions::default().with_ca_file(authority.file());
    for options in [trusting.clone(), trusting.clone().with_system_roots(false)] {
        let client = secure(&host, options).credentials(ann(&host, "secret")).build().unwrap();
        assert_eq!(client.authenticate().await.unwrap(), Admission::Admitted);
        let bytes = noise(70_000);
        let digest = Digest::sha256_of(&bytes);
        let push = PushBlob::new(digest, Arc::new(MemorySource::new(bytes.clone())));
        client.push_blob(&repository(NAME), push).await.unwrap();
        assert!(whole(client.read_blob(&repository(NAME), &digest, None).await.unwrap()).await.unwrap() == bytes);
    }
    for wrong in [ann(&host, "wrong"), Static::new()] {
        let client = secure(&host, trusting.clone()).credentials(wrong).build().unwrap();
        let error = client.authenticate().await.unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::Unauthorized, "{error}");
    }
    let strangers = RegistryOptions::default().with_ca_file(Authority::new().file());
    assert!(secure(&host, RegistryOptions::default()).build().unwrap().authenticate().await.is_err());
    assert!(secure(&host, strangers).build().is_err(), "the directory of that authority is gone");
    let blind = RegistryOptions::default().with_danger_accept_invalid_certs(true);
    let client = secure(&host, blind).credentials(ann(&host, "secret")).build().unwrap();
    assert_eq!(client.authenticate().await.unwrap(), Admission::Admitted);
}

#[tokio::test]
async fn a_registry_that_wants_to_see_a_certificate() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let security = Security {
        tls: Some(servers.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth)),
        client_authority: Some(clients.issuer.pem()),
        htpasswd: None,
    };
    let Some(registry) = require("docker-registry", DockerRegistry::start_with(&security)) else { return };
    let host = format!("localhost:{}", registry.addr().port());
    let options = RegistryOptions::default().with_ca_file(servers.file());
    assert!(secure(&host, options.clone()).build().unwrap().authenticate().await.is_err());
    let (chain, key) = clients.client();
    let client = secure(&host, options.with_client_certificate(&chain, &key)).build().unwrap();
    assert_eq!(client.authenticate().await.unwrap(), Admission::Open);
    // The same, from where Docker keeps it.
    let certs = tempfile::tempdir().unwrap();
    let directory = certs.path().join(&host);
    std::fs::create_dir(&directory).unwrap();
    for (from, name) in [(servers.file(), "ca.crt"), (chain, "client.cert"), (key, "client.key")] {
        std::fs::copy(from, directory.join(name)).unwrap();
    }
    let options = CertificateDirs::new([certs.path()]).options(&host, RegistryOptions::default()).unwrap();
    let client = secure(&host, options).build().unwrap();
    assert_eq!(client.authenticate().await.unwrap(), Admission::Open);
}

#[tokio::test]
async fn headers_go_to_the_registry_alone() {
    let storage = Script::start(|seen| Reply::content(seen, b"content")).await;
    let to = storage.addr;
    let server = Script::start(move |seen| match seen.path.as_str() {
        "/token" => Reply::new(200).json(r#"{"token":"t"}"#),
        _ if seen.header("authorization").is_none() => {
            let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
            Reply::new(401).header("WWW-Authenticate", realm)
        }
        _ => Reply::new(307).header("Location", format!("http://{to}/signed")),
    })
    .await;
    let options = RegistryOptions::default().with_header("X-Team", "canary").with_header("X-Team", "second");
    let client = builder(server.addr).options(options).build().unwrap();
    let digest = Digest::sha256_of(b"content");
    assert_eq!(whole(client.read_blob(&repository(NAME), &digest, None).await.unwrap()).await.unwrap(), b"content");
    for seen in server.seen() {
        assert_eq!(seen.header("x-team").is_some(), seen.path != "/token", "{}", seen.path);
    }
    assert!(storage.seen().iter().all(|seen| seen.header("x-team").is_none()));
}

#[test]
fn options_that_cannot_be_used_are_told_when_the_client_is_made() {
    let missing = secure("r.example", RegistryOptions::default().with_ca_file("/does/not/exist.pem")).build();
    let error = missing.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("/does/not/exist.pem"), "{error}: {cause}");
    assert!(RegistryOptions::default().transport("a.example", &TransportOptions::default()).unwrap().is_none());
}

/// Puts a blob and a manifest with the tag `v1` there.
async fn fill(registry: &dyn Registry, name: &Repository, blob: &[u8], manifest: &[u8]) {
    registry.ensure_empty_config(name).await.unwrap();
    let push = PushBlob::new(Digest::sha256_of(blob), Arc::new(MemorySource::new(blob.to_vec())));
    registry.push_blob(name, push).await.unwrap();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_vec()).with_tags([tag("v1")]);
    registry.push_manifest(name, push).await.unwrap();
}

fn manifest(mark: &str) -> Vec<u8> {
    ImageManifest::artifact("a/b", vec![]).with_annotation("mark", mark).to_bytes()
}

async fn serve(registry: Arc<MemoryRegistry>) -> ServerHandle {
    Server::builder(registry).bind("127.0.0.1:0").await.unwrap()
}

fn mirrored(origin: SocketAddr, mirror: SocketAddr, tags: bool) -> Mirrored {
    let place = Mirror::parse(&format!("http://{mirror}/hub")).unwrap().with_tags(tags);
    Mirrored::new(Arc::new(client(origin))).with(&place, Arc::new(client(mirror)))
}

#[tokio::test]
async fn mirrors_serve_content_and_the_registry_says_what_tags_mean() {
    let (origin, mirror) = (Arc::new(MemoryRegistry::new()), Arc::new(MemoryRegistry::new()));
    let (name, hub, blob, current) =
        (repository(NAME), repository("hub/team/app"), noise(100_000), manifest("current"));
    fill(&*origin, &name, &blob, &current).await;
    fill(&*mirror, &hub, &blob, &current).await;
    // The mirror is behind: its tag points at something else.
    fill(&*mirror, &hub, b"old", &manifest("old")).await;
    let (origin, mirror) = (serve(origin).await, serve(mirror).await);
    let (origin_addr, mirror_addr) = (origin.local_addr(), mirror.local_addr());
    let registry = mirrored(origin_addr, mirror_addr, false);
    let found = registry.manifest(&name, &by_tag("v1")).await.unwrap();
    assert_eq!(found.bytes, current);
    assert_eq!(registry.resolve(&name, &by_tag("v1")).await.unwrap().digest, found.descriptor.digest);
    let tagged = mirrored(origin_addr, mirror_addr, true);
    assert_eq!(tagged.manifest(&name, &by_tag("v1")).await.unwrap().bytes, manifest("old"));
    // Content comes from the mirror even when the registry is gone.
    origin.shutdown().await;
    let registry = mirrored(origin_addr, mirror_addr, false);
    let digest = Digest::sha256_of(&blob);
    assert!(whole(registry.read_blob(&name, &digest, None).await.unwrap()).await.unwrap() == blob);
    assert_eq!(registry.stat_blob(&name, &digest).await.unwrap(), 100_000);
    assert!(registry.has_manifest(&name, &found.descriptor.digest.into()).await.unwrap());
    assert!(registry.manifest(&name, &by_tag("v1")).await.is_err(), "that is for the registry to say");
}

#[tokio::test]
async fn a_mirror_that_fails_is_done_without() {
    let (name, blob) = (repository(NAME), noise(50_000));
    let digest = Digest::sha256_of(&blob);
    let content = blob.clone();
    let origin = Script::start(move |seen| Reply::content(seen, &content)).await;
    let content = blob.clone();
    // One that has nothing, one that breaks off, one that tells lies, and one that wants to know who we are.
    let mirrors = [
        Script::start(|_| Reply::new(404)).await,
        Script::start(move |_| Reply::new(200).body(content.clone()).cut(20_000)).await,
        Script::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"mirror\"")).await,
    ];
    let secrets = Static::new().with(origin.addr.to_string(), Credential::basic("ann", "canary"));
    for mirror in &mirrors {
        let client =
            |addr| Arc::new(builder(addr).credentials(secrets.clone()).retry(RetryPolicy::never()).build().unwrap());
        let place = Mirror::parse(&format!("http://{}/hub", mirror.addr)).unwrap();
        let registry = Mirrored::new(client(origin.addr)).with(&place, client(mirror.addr));
        let read = whole(registry.read_blob(&name, &digest, None).await.unwrap()).await;
        assert!(read.unwrap() == blob);
        assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()), "not the mirror's to see");
        assert!(mirror.count("GET", "/v2/hub/team/app/blobs/") > 0);
    }
    // What broke is left alone for a while.
    let broken = mirrors[1].seen().len();
    let place = Mirror::parse(&format!("http://{}/hub", mirrors[1].addr)).unwrap();
    let client = |addr| Arc::new(builder(addr).retry(RetryPolicy::never()).build().unwrap());
    let registry = Mirrored::new(client(origin.addr)).with(&place, client(mirrors[1].addr));
    for _ in 0..3 {
        whole(registry.read_blob(&name, &digest, None).await.unwrap()).await.unwrap();
    }
    assert_eq!(mirrors[1].seen().len(), broken + 1);
}

#[tokio::test]
async fn what_a_mirror_began_and_the_registry_ended_is_checked_as_a_whole() {
    // Smaller ones are checked before their first byte is handed out.
    let (name, blob) = (repository(NAME), noise((8 << 20) + 50_000));
    let digest = Digest::sha256_of(&blob);
    let content = blob.clone();
    let origin = Script::start(move |seen| Reply::content(seen, &content)).await;
    // The bytes before the break are wrong; those behind it are right.
    let mut forged = blob.clone();
    forged[10_000] ^= 1;
    let mirror = Script::start(move |_| Reply::new(200).body(forged.clone()).cut(20_000)).await;
    let client = |addr| Arc::new(builder(addr).retry(RetryPolicy::never()).build().unwrap());
    let place = Mirror::parse(&format!("http://{}/hub", mirror.addr)).unwrap();
    let registry = Mirrored::new(client(origin.addr)).with(&place, client(mirror.addr));
    let read = whole(registry.read_blob(&name, &digest, None).await.unwrap()).await;
    let error = read.map(|bytes| bytes.len()).unwrap_err();
    assert_eq!(error.kind(), blob_core::FailureKind::Integrity, "{error:?}");
    // It told a lie, so it is passed over for a while.
    assert!(whole(registry.read_blob(&name, &digest, None).await.unwrap()).await.unwrap() == blob);
    assert_eq!(mirror.seen().len(), 1);
}

/// What is written, and what decides about that, never goes to a mirror.
#[tokio::test]
async fn pushes_and_deletions_never_ask_a_mirror() {
    let origin = serve(Arc::new(MemoryRegistry::new())).await;
    let mirror = Script::start(|_| Reply::new(200).header("Content-Length", 5).body("wrong")).await;
    let registry = mirrored(origin.local_addr(), mirror.addr, true);
    let (name, blob) = (repository(NAME), noise(100_000));
    let digest = Digest::sha256_of(&blob);
    registry.push_blob(&name, PushBlob::new(digest, Arc::new(MemorySource::new(blob)))).await.unwrap();
    registry.start_upload(&name).await.unwrap().cancel().await.unwrap();
    registry.mount_blob(&repository("team/copy"), &digest, Some(&name)).await.unwrap();
    let config = PushBlob::new(Digest::sha256_of(b"{}"), Arc::new(MemorySource::new("{}")));
    registry.push_blob(&name, config).await.unwrap();
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest("1")).with_tags([tag("v1")]);
    let pushed = registry.push_manifest(&name, push).await.unwrap();
    registry.tags(&name, &PageRequest::first()).await.unwrap();
    registry.referrers(&name, &pushed.digest, None, &PageRequest::first()).await.unwrap();
    registry.repositories(&PageRequest::first()).await.unwrap();
    registry.delete_tag(&name, &tag("v1")).await.unwrap();
    registry.delete_manifest(&name, &pushed.digest).await.unwrap();
    registry.delete_blob(&name, &digest).await.unwrap();
    assert_eq!(mirror.log(), Vec::<String>::new());
}

/// It takes connections, and says nothing.
#[tokio::test]
async fn a_mirror_that_is_silent_gets_company() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Arc::new(MemoryRegistry::new());
    let (name, content) = (repository("team/app"), noise(1000));
    fill(&*origin, &name, &content, &manifest("current")).await;
    let origin = serve(origin).await;
    let registry = mirrored(origin.local_addr(), silent.local_addr().unwrap(), false);
    let digest = Digest::sha256_of(&content);
    let reading = async { whole(registry.read_blob(&name, &digest, None).await.unwrap()).await.unwrap() };
    // The time-out of these clients for silence is a minute.
    let read = tokio::time::timeout(std::time::Duration::from_secs(40), reading).await.expect("the registry answers");
    assert_eq!(read, content);
}

#[tokio::test]
async fn wrong_bytes_of_a_small_blob_on_a_mirror_cost_a_request() {
    let origin = Arc::new(MemoryRegistry::new());
    let (name, content) = (repository("team/app"), noise(100_000));
    fill(&*origin, &name, &content, &manifest("current")).await;
    let origin = serve(origin).await;
    let digest = Digest::sha256_of(&content);
    for (what, length) in [("others", 100_000), ("fewer", 99_999), ("more", 100_001)] {
        let mirror = Script::start(move |_| Reply::new(200).body(vec![7; length])).await;
        let registry = mirrored(origin.local_addr(), mirror.addr, false);
        let read = whole(registry.read_blob(&name, &digest, None).await.unwrap()).await;
        assert_eq!(read.unwrap(), content, "{what}");
        assert_eq!(mirror.seen().len(), 1, "{what}");
    }
}
