//! A union keeps the contract of the trait, whatever it is made of.

use super::*;

mod two_memories_first {
    use super::*;
    blob_registry::registry_conformance!(async || {
        Arc::new(Unify::new(vec![memory(), memory()], UnifyOptions::default())) as Arc<dyn Registry>
    });
}

mod two_memories_all {
    use super::*;
    blob_registry::registry_conformance!(async || {
        let options = options(|options| (options.write, options.read) = (WritePolicy::All, ReadPolicy::Race));
        Arc::new(Unify::new(vec![memory(), memory()], options)) as Arc<dyn Registry>
    });
}

mod three_that_agree {
    use super::*;
    blob_registry::registry_conformance!(async || {
        let options = options(|options| (options.tags, options.write) = (TagPolicy::Agree, WritePolicy::All));
        Arc::new(Unify::new(vec![memory(), memory(), memory()], options)) as Arc<dyn Registry>
    });
}

#[cfg(feature = "layout")]
mod memory_and_layout {
    use blob_registry::LayoutStore;

    use super::*;
    blob_registry::registry_conformance!(async || {
        let directory = tempfile::tempdir().unwrap();
        let store = LayoutStore::open(directory.path().join("store")).await.unwrap();
        let options = options(|options| options.write = WritePolicy::All);
        (Arc::new(Unify::new(vec![memory(), Arc::new(store)], options)) as Arc<dyn Registry>, directory)
    });
}

/// The ids of its upload sessions go through URLs.
#[cfg(all(feature = "client", feature = "server"))]
mod served {
    use blob_registry::Server;
    use blob_registry::client::RegistryClient;

    use super::*;
    blob_registry::registry_conformance!(async || {
        let options = options(|options| options.write = WritePolicy::All);
        let union = Unify::new(vec![memory(), memory()], options);
        let server = Server::builder(Arc::new(union)).bind("127.0.0.1:0").await.unwrap();
        let client = RegistryClient::builder(server.local_addr().to_string()).build().unwrap();
        (Arc::new(client) as Arc<dyn Registry>, server)
    });
}

/// A union can do what its members can: all of them where it writes to all, the first where it writes to that.
#[tokio::test]
async fn unions_can_do_what_their_members_can() {
    use std::collections::BTreeSet;

    use blob_registry::conformance::{Capability, capabilities, fresh_repository};
    use blob_registry::filter::Immutable;

    let kept = || Arc::new(Immutable::new(memory())) as Arc<dyn Registry>;
    let deletions = [Capability::TagDeletion, Capability::ManifestDeletion, Capability::BlobDeletion];
    let fewer: BTreeSet<Capability> = Capability::ALL.into_iter().filter(|one| !deletions.contains(one)).collect();
    for write in [WritePolicy::First, WritePolicy::All] {
        for read in [ReadPolicy::Sequential, ReadPolicy::Race, ReadPolicy::Random] {
            let union = |members| Unify::new(members, options(|options| (options.write, options.read) = (write, read)));
            let all = union(vec![memory(), memory(), memory()]);
            assert_eq!(capabilities(&all, &fresh_repository()).await, Capability::ALL.into(), "{write:?} {read:?}");
            let first = union(vec![kept(), kept()]);
            assert_eq!(capabilities(&first, &fresh_repository()).await, fewer, "{write:?} {read:?}");
        }
    }
}
