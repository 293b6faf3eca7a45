//! The client keeps the contract of the trait: over our server, and over Debian's `docker-registry`.

mod over_our_server {
    use std::sync::Arc;

    use blob_registry::{MemoryRegistry, Registry, Server};

    blob_registry::registry_conformance!(async || {
        let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
        (Arc::new(crate::client::client(server.local_addr())) as Arc<dyn Registry>, server)
    });
}

/// A registry with a mirror in front of it, which has nothing; and one whose mirror is the registry itself.
mod with_mirrors {
    use std::sync::Arc;

    use blob_registry::client::{Mirror, Mirrored};
    use blob_registry::conformance::{Capability, capabilities, fresh_repository};
    use blob_registry::{MemoryRegistry, Registry, Server, ServerHandle};

    async fn mirrored() -> (Mirrored, (ServerHandle, ServerHandle)) {
        let serve = || Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0");
        let (origin, empty) = (serve().await.unwrap(), serve().await.unwrap());
        let mut registry = Mirrored::new(Arc::new(crate::client::client(origin.local_addr())));
        for (addr, tags) in [(empty.local_addr(), false), (origin.local_addr(), true)] {
            let place = Mirror::parse(&addr.to_string()).unwrap().with_tags(tags);
            registry = registry.with(&place, Arc::new(crate::client::client(addr)));
        }
        (registry, (origin, empty))
    }

    blob_registry::registry_conformance!(async || {
        let (registry, servers) = mirrored().await;
        (Arc::new(registry) as Arc<dyn Registry>, servers)
    });

    #[tokio::test]
    async fn mirrors_take_nothing_away() {
        let (registry, _servers) = mirrored().await;
        assert_eq!(capabilities(&registry, &fresh_repository()).await, Capability::ALL.into());
    }
}

mod over_docker_registry {
    use std::sync::Arc;

    use blob_registry::{MemoryRegistry, Registry};
    use blob_testkit::peers::{DockerRegistry, require};

    // Left out is what this registry does otherwise: it answers 500 to the digest of a blob that is asked for as a
    // manifest, knows no referrers (the client keeps them under a tag, but there is no subject for the registry to
    // name), no SHA-512, no repositories without a manifest, and takes manifests with duplicate members.
    blob_registry::registry_conformance! { @clauses
        async || match require("docker-registry", DockerRegistry::start()) {
            Some(server) => (Arc::new(crate::client::client(server.addr())) as Arc<dyn Registry>, Some(server)),
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
        referrers_come_in_pages,
        deleted_referrers_are_not_found,
        repositories_are_listed,
    }
}

#[tokio::test]
async fn the_client_can_do_what_the_registry_can() {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use blob_registry::conformance::{Capability, capabilities, fresh_repository};
    use blob_registry::{MemoryRegistry, Server};
    use blob_testkit::peers::{DockerRegistry, require};

    let server = Server::builder(Arc::new(MemoryRegistry::new())).bind("127.0.0.1:0").await.unwrap();
    let ours = crate::client::client(server.local_addr());
    assert_eq!(capabilities(&ours, &fresh_repository()).await, Capability::ALL.into());
    let Some(docker) = require("docker-registry", DockerRegistry::start()) else { return };
    let mut expected = BTreeSet::from(Capability::ALL);
    expected.remove(&Capability::TagDeletion);
    assert_eq!(capabilities(&crate::client::client(docker.addr()), &fresh_repository()).await, expected);
}
