//! Every implementation keeps the contract.

mod memory {
    use std::sync::Arc;

    use blob_registry::{MemoryRegistry, Registry};

    blob_registry::registry_conformance!(async || Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>);
}

mod layout {
    use std::sync::Arc;

    use blob_registry::{LayoutRegistry, Registry};

    blob_registry::registry_conformance!(async || {
        let directory = tempfile::tempdir().unwrap();
        let layout = LayoutRegistry::open_or_create(directory.path().join("layout")).await.unwrap();
        (Arc::new(layout) as Arc<dyn Registry>, directory)
    });
}

mod layout_file {
    use std::sync::Arc;

    use blob_registry::{LayoutFile, Registry};

    blob_registry::registry_conformance!(async || {
        let directory = tempfile::tempdir().unwrap();
        let layout = LayoutFile::begin(directory.path().join("layout.tar")).await.unwrap();
        (Arc::new(layout) as Arc<dyn Registry>, directory)
    });
}

mod layout_store {
    use std::sync::Arc;

    use blob_registry::{LayoutStore, Registry};

    blob_registry::registry_conformance!(async || {
        let directory = tempfile::tempdir().unwrap();
        let store = LayoutStore::open(directory.path().join("store")).await.unwrap();
        (Arc::new(store) as Arc<dyn Registry>, directory)
    });
}

#[tokio::test]
async fn stores_can_do_everything() {
    use std::sync::Arc;

    use blob_registry::conformance::{Capability, capabilities, fresh_repository};
    use blob_registry::{LayoutRegistry, LayoutStore, MemoryRegistry, Registry};

    let directory = tempfile::tempdir().unwrap();
    let layout = LayoutStore::open(directory.path().join("store")).await.unwrap();
    for registry in [Arc::new(MemoryRegistry::new()) as Arc<dyn Registry>, Arc::new(layout)] {
        assert_eq!(capabilities(&*registry, &fresh_repository()).await, Capability::ALL.into());
    }
    // A single layout is one repository, whatever that is called.
    let layout = LayoutRegistry::open_or_create(directory.path().join("layout")).await.unwrap();
    let mut expected = std::collections::BTreeSet::from(Capability::ALL);
    expected.remove(&Capability::Repositories);
    assert_eq!(capabilities(&layout, &fresh_repository()).await, expected);
}
