//! One long scenario against every kind of server: ours with each kind of access, and Debian's `docker-registry`.

use std::net::SocketAddr;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::client::{Credential, RegistryClient, Static};
use blob_registry::server::Auth;
use blob_registry::{
    Descriptor, ErrorCode, ImageManifest, MemoryRegistry, PageRequest, PushBlob, PushManifest, PushedBlob, Registry,
    Server, media_type,
};
use blob_testkit::peers::{DockerRegistry, require};

use super::{builder, by_tag, noise, repository, tag, whole};

fn login(addr: SocketAddr, password: &str) -> RegistryClient {
    let credentials = Static::new().with(addr.to_string(), Credential::basic("ann", password));
    builder(addr).credentials(credentials).build().unwrap()
}

async fn scenario(client: &RegistryClient) {
    let (name, data) = (repository("team/app"), noise(700_000));
    let layers = vec![Descriptor::of("a/index", b"index"), Descriptor::of("a/data", &data)];
    for bytes in [b"{}".to_vec(), b"index".to_vec(), data.clone()] {
        let digest = Digest::sha256_of(&bytes);
        let push = || PushBlob::new(digest, Arc::new(MemorySource::new(bytes.clone())));
        assert_eq!(client.push_blob(&name, push()).await.unwrap(), PushedBlob::Uploaded);
        assert_eq!(client.push_blob(&name, push()).await.unwrap(), PushedBlob::Existing);
        assert_eq!(client.stat_blob(&name, &digest).await.unwrap(), bytes.len() as u64);
        let mut mount = push();
        mount.mount_from = vec![name.clone()];
        assert_eq!(client.push_blob(&repository("team/copy"), mount).await.unwrap(), PushedBlob::Mounted);
    }
    let bytes = ImageManifest::artifact("a/b", layers).to_bytes();
    let tags = [tag("v1"), tag("v2"), tag("latest")];
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, bytes.clone()).with_tags(tags.clone());
    let digest = client.push_manifest(&name, push).await.unwrap().digest;
    for target in tags.map(Into::into).into_iter().chain([digest.into()]) {
        assert_eq!(client.resolve(&name, &target).await.unwrap().digest, digest);
        assert_eq!(client.manifest(&name, &target).await.unwrap().bytes, bytes);
    }
    let read = client.read_blob(&name, &Digest::sha256_of(&data), Some(600_000..650_000)).await.unwrap();
    assert!(whole(read).await.unwrap() == data[600_000..650_000]);
    let read = client.read_blob(&name, &Digest::sha256_of(&data), None).await.unwrap();
    assert!(whole(read).await.unwrap() == data);

    let mut signature = ImageManifest::artifact("a/sig", vec![]);
    signature.subject = Some(Descriptor::of(media_type::IMAGE_MANIFEST, &bytes));
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, signature.to_bytes());
    let signature = client.push_manifest(&name, push).await.unwrap().digest;
    let found = client.referrers(&name, &digest, Some("a/sig"), &PageRequest::first()).await.unwrap();
    assert_eq!(found.items.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [signature]);
    assert!(client.referrers(&name, &digest, Some("x/y"), &PageRequest::first()).await.unwrap().items.is_empty());

    let tags = client.tags(&name, &PageRequest::first().limit(2)).await.unwrap();
    assert_eq!(tags.items.len(), 2);
    let names = client.repositories(&PageRequest::first()).await.unwrap();
    assert!(names.items.contains(&name), "{names:?}");

    let mut upload = client.start_upload(&name).await.unwrap();
    upload.append(data[..100_000].to_vec().into()).await.unwrap();
    upload.append(data[100_000..300_000].to_vec().into()).await.unwrap();
    upload.commit(&Digest::sha256_of(&data[..300_000])).await.unwrap();
    client.start_upload(&name).await.unwrap().cancel().await.unwrap();

    assert!(client.manifest(&name, &by_tag("none")).await.unwrap_err().is_not_found());
    let absent = Digest::sha256_of(b"absent");
    assert!(client.stat_blob(&name, &absent).await.unwrap_err().is_not_found());
    assert!(client.read_blob(&name, &absent, None).await.unwrap_err().is_not_found());
    client.delete_blob(&name, &Digest::sha256_of(&data[..300_000])).await.unwrap();
    client.delete_manifest(&name, &digest).await.unwrap();
    assert!(client.manifest(&name, &digest.into()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn our_server_without_access_rules() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    scenario(&super::client(server.local_addr())).await;
}

#[tokio::test]
async fn our_server_with_passwords_and_tokens() {
    for auth in [Auth::basic("r").user("ann", "secret"), Auth::bearer("s").user("ann", "secret")] {
        let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0").await.unwrap();
        let addr = server.local_addr();
        scenario(&login(addr, "secret")).await;
        for client in [login(addr, "wrong"), super::client(addr)] {
            let error = client.tags(&repository("team/app"), &PageRequest::first()).await.unwrap_err();
            assert!(matches!(error.error_code(), ErrorCode::Unauthorized | ErrorCode::Denied), "{error}");
        }
    }
}

#[tokio::test]
async fn docker_registry() {
    let Some(registry) = require("docker-registry", DockerRegistry::start()) else { return };
    scenario(&super::client(registry.addr())).await;
}
