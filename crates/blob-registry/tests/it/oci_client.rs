//! An outside client as a registry keeps the contract of the trait, as far as it says that it can.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use blob_core::{Digest, MemorySource};
use blob_registry::conformance::{Capability, capabilities, fresh_repository};
use blob_registry::oci_client::OciClient;
use blob_registry::server::Auth;
use blob_registry::{MemoryRegistry, PageRequest, PushBlob, Registry, Server};
use blob_testkit::peers::{DockerRegistry, require};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

use crate::client::{everything, noise, repository};

fn adapter(addr: SocketAddr, auth: RegistryAuth) -> OciClient {
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    OciClient::new(Client::new(config), addr.to_string(), auth)
}

fn anonymous(addr: SocketAddr) -> OciClient {
    adapter(addr, RegistryAuth::Anonymous).with_whole_referrers(true)
}

mod over_our_server {
    use super::*;

    blob_registry::registry_conformance!(
        async || {
            let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
            (Arc::new(anonymous(server.local_addr())) as Arc<dyn Registry>, server)
        },
        // The client does not hand out what the registry says about the subject of a manifest.
        refused: [referrers_are_found: "the registry says what it indexed it under"]
    );
}

mod over_docker_registry {
    use super::*;

    // Left out is what this registry does otherwise (see the conformance of our own client), and referrers: it has no
    // API for them, and the client keeps no lists.
    blob_registry::registry_conformance! { @clauses
        async || match require("docker-registry", DockerRegistry::start()) {
            Some(server) => (Arc::new(anonymous(server.addr())) as Arc<dyn Registry>, Some(server)),
            None => (Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, None),
        };
        blobs_round_trip,
        ranges_are_exact,
        empty_blobs_are_blobs,
        wrong_blobs_are_refused,
        absent_blobs_are_not_found,
        failing_sources_leave_nothing,
        dropped_pushes_leave_nothing,
        pushes_tell_their_progress,
        local_blobs_are_the_blobs,
        deleted_blobs_are_gone,
        blobs_are_mounted_or_a_session_opens,
        pieces_become_a_blob,
        uploads_are_resumed,
        cancelled_uploads_are_gone,
        wrong_uploads_are_refused,
        manifests_round_trip,
        tags_move_and_manifests_stay,
        one_push_sets_many_tags,
        conditions_are_honoured_or_refused,
        what_manifests_name_must_exist,
        deleted_tags_leave_the_manifest,
        deleted_manifests_take_their_tags,
        unknown_repositories_are_not_found,
        repositories_are_listed,
    }
}

#[tokio::test]
async fn it_can_do_what_it_says_and_nothing_else() {
    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let bare = adapter(server.local_addr(), RegistryAuth::Anonymous);
    let expected = BTreeSet::from([Capability::Mounts, Capability::Repositories]);
    assert_eq!(capabilities(&bare, &fresh_repository()).await, expected);
    let expected = BTreeSet::from([Capability::Mounts, Capability::Referrers, Capability::Repositories]);
    assert_eq!(capabilities(&anonymous(server.local_addr()), &fresh_repository()).await, expected);
}

#[tokio::test]
async fn large_blobs_and_passwords() {
    for auth in [Auth::basic("r").user("ann", "secret"), Auth::bearer("s").user("ann", "secret")] {
        let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth).bind("127.0.0.1:0").await.unwrap();
        let login = |password: &str| {
            let auth = RegistryAuth::Basic("ann".into(), password.into());
            adapter(server.local_addr(), auth)
        };
        let (registry, name, content) = (login("secret"), repository("team/app"), noise(9_000_000));
        let digest = Digest::sha256_of(&content);
        let push = PushBlob::new(digest, Arc::new(MemorySource::new(content.clone())));
        registry.push_blob(&name, push.clone()).await.unwrap();
        assert_eq!(registry.stat_blob(&name, &digest).await.unwrap(), 9_000_000);
        let reader = registry.read_blob(&name, &digest, Some(8_000_000..8_500_000)).await.unwrap();
        let read: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(reader.stream).await.unwrap();
        assert!(read.concat() == content[8_000_000..8_500_000]);
        let stranger = login("canary");
        for error in [
            stranger.push_blob(&name, push).await.unwrap_err(),
            stranger.stat_blob(&name, &digest).await.unwrap_err(),
            stranger.tags(&name, &PageRequest::first()).await.unwrap_err(),
        ] {
            assert!(error.is_unauthorized(), "{error:?}");
            assert!(!everything(&error).contains("canary"), "{error:?}");
        }
    }
}
