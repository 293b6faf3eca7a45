//! Copies of artifacts between registries.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use blob_core::{Digest, Event};
use blob_registry::{
    CopyOptions, Descriptor, ErrorCode, ImageIndex, ImageManifest, LayoutRegistry, LayoutStore, MemoryRegistry,
    PageRequest, Place, PushManifest, Registry, RegistryError, Repository, Target, copy, media_type,
};

use crate::kit::{Scripted, artifact, code, descriptor, memory, put, put_artifact, read, repository, tag};

fn place(registry: impl Registry + 'static, name: &str) -> Place {
    Place::new(Arc::new(registry), repository(name))
}

fn options(change: impl FnOnce(&mut CopyOptions)) -> CopyOptions {
    let mut options = CopyOptions::default();
    change(&mut options);
    options
}

/// What [`graph`] makes: the index `v1` of two artifacts with a common configuration, a referrer of the index, one of
/// that, and one of the first artifact.
struct Graph {
    index: PushManifest,
    children: [PushManifest; 2],
    referrers: [PushManifest; 3],
}

async fn graph(registry: &dyn Registry, name: &str) -> Graph {
    let children = [put_artifact(registry, name, "one", &[]).await, put_artifact(registry, name, "two", &[]).await];
    let index = ImageIndex::new(children.iter().map(descriptor).collect());
    let index = PushManifest::new(media_type::IMAGE_INDEX, index.to_bytes()).with_tags([tag("v1")]);
    registry.push_manifest(&repository(name), index.clone()).await.unwrap();
    let signature = artifact("signature", Some(&index));
    let referrers =
        [signature.clone(), artifact("countersignature", Some(&signature)), artifact("sbom", Some(&children[0]))];
    for (referrer, layer) in referrers.iter().zip(["signature", "countersignature", "sbom"]) {
        put(registry, name, layer).await;
        registry.push_manifest(&repository(name), referrer.clone()).await.unwrap();
    }
    Graph { index, children, referrers }
}

async fn has(place: &Place, manifest: &PushManifest) -> bool {
    match place.registry.manifest(&place.repository, &manifest.digest.into()).await {
        Ok(found) => found.bytes == manifest.bytes,
        Err(error) if error.is_not_found() => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Tags of one artifact, and of artifacts with a common layer, that are copied at a time.
#[tokio::test]
async fn copies_at_a_time_send_what_they_share_once() {
    let directory = tempfile::tempdir().unwrap();
    let layout = LayoutRegistry::open_or_create(directory.path().join("to")).await.unwrap();
    let (from, to) = (place(MemoryRegistry::new(), "from"), place(layout, "to"));
    let graph = graph(&*from.registry, "from").await;
    let shared = CopyOptions::default();
    let targets = [graph.index.digest, graph.children[0].digest, graph.index.digest, graph.children[1].digest];
    let targets = targets.map(Into::into);
    let copies = targets.iter().map(|target| copy(&from, target, &to, &shared));
    let reports = futures_util::future::try_join_all(copies).await.unwrap();
    // The empty configuration and two layers.
    assert_eq!(reports.iter().map(|report| report.blobs_copied).sum::<u64>(), 3, "{reports:?}");
}

/// Copies the graph of `from` to `to` in every way there is and looks at what arrived.
async fn check_copies(from: Place, to: Place) {
    let graph = graph(&*from.registry, from.repository.as_str()).await;
    let target = tag("v1").into();
    let wet = options(|options| options.tags = vec![tag("v1"), tag("latest")]);
    let dry = options(|options| (options.tags, options.dry_run) = (vec![tag("v1")], true));
    let planned = copy(&from, &target, &to, &dry).await.unwrap();
    assert!(!has(&to, &graph.index).await, "a dry run changes nothing");
    let report = copy(&from, &target, &to, &wet).await.unwrap();
    assert_eq!(report, planned, "a dry run tells what happens");
    assert_eq!((report.manifests_copied, report.manifests_existing), (3, 0));
    assert_eq!((report.blobs_copied, report.blobs_existing, report.blobs_mounted), (3, 0, 0));
    let manifests = graph.children.iter().chain([&graph.index]).map(|push| push.bytes.len() as u64).sum::<u64>();
    assert_eq!((report.bytes, report.root.digest), (manifests + 2 + 3 + 3, graph.index.digest));
    for name in ["v1", "latest"] {
        let tagged = to.registry.resolve(&to.repository, &tag(name).into()).await.unwrap();
        assert_eq!(tagged.digest, graph.index.digest);
    }
    assert!(!has(&to, &graph.referrers[0]).await, "referrers were not asked for");
    let with_referrers = options(|options| options.referrers = true);
    let report = copy(&from, &target, &to, &with_referrers).await.unwrap();
    assert_eq!((report.manifests_copied, report.manifests_existing), (3, 3));
    assert_eq!((report.blobs_copied, report.blobs_existing), (3, 1), "the empty configuration was there");
    for manifest in graph.referrers.iter().chain(&graph.children).chain([&graph.index]) {
        assert!(has(&to, manifest).await);
    }
    let listed = to.registry.referrers(&to.repository, &graph.index.digest, None, &PageRequest::first()).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(read(&*to.registry, to.repository.as_str(), &Digest::sha256_of(b"two")).await, "two");
    let report = copy(&from, &target, &to, &with_referrers).await.unwrap();
    assert_eq!((report.manifests_copied, report.blobs_copied, report.bytes), (0, 0, 0), "nothing is missing");
}

#[tokio::test]
async fn copies_between_all_kinds_of_registries() {
    let directory = tempfile::tempdir().unwrap();
    for (number, (from_disk, to_disk)) in
        [(false, false), (false, true), (true, false), (true, true)].iter().enumerate()
    {
        let open = async |on_disk: bool, side: &str| -> Arc<dyn Registry> {
            let path = directory.path().join(format!("{number}{side}"));
            if on_disk { Arc::new(LayoutStore::open(path).await.unwrap()) } else { memory() }
        };
        let from = Place::new(open(*from_disk, "from").await, repository("a"));
        check_copies(from, Place::new(open(*to_disk, "to").await, repository("b"))).await;
    }
    let layout = LayoutRegistry::open_or_create(directory.path().join("layout")).await.unwrap();
    check_copies(place(MemoryRegistry::new(), "a"), place(layout, "any")).await;
}

#[tokio::test]
async fn blobs_are_streamed_where_they_are_not_local() {
    check_copies(place(Scripted::remote(memory()), "a"), place(Scripted::remote(memory()), "b")).await;
}

#[cfg(all(feature = "client", feature = "server"))]
#[tokio::test]
async fn copies_between_served_registries() {
    use blob_registry::Server;
    use blob_registry::client::RegistryClient;

    let serve = async |registry: Arc<dyn Registry>| Server::builder(registry).bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Registry> = Arc::new(LayoutStore::open(directory.path().join("store")).await.unwrap());
    let (from, to) = (serve(memory()).await, serve(Arc::clone(&store)).await);
    let client = |server: &blob_registry::ServerHandle| -> Arc<dyn Registry> {
        Arc::new(RegistryClient::builder(server.local_addr().to_string()).build().unwrap())
    };
    check_copies(Place::new(client(&from), repository("a")), Place::new(client(&to), repository("b"))).await;
    check_copies(Place::new(store, repository("a")), Place::new(client(&from), repository("b"))).await;
    // The same server through two clients: only the caller knows, and blobs are mounted.
    let same = options(|options| options.same_registry = true);
    let (one, other) = (Place::new(client(&to), repository("a")), Place::new(client(&to), repository("c")));
    let report = copy(&one, &tag("v1").into(), &other, &same).await.unwrap();
    assert_eq!((report.blobs_mounted, report.blobs_copied), (3, 0));
}

#[tokio::test]
async fn only_what_is_missing_is_asked_for() {
    let (from, to) = (Scripted::remote(memory()), Scripted::remote(memory()));
    let (source, destination) = (place(from.clone(), "a"), place(to.clone(), "b"));
    let graph = graph(&from, "a").await;
    copy(&source, &graph.children[0].digest.into(), &destination, &CopyOptions::default()).await.unwrap();
    from.take_all();
    to.take_all();
    let tags = options(|options| options.tags = vec![tag("v1")]);
    copy(&source, &tag("v1").into(), &destination, &tags).await.unwrap();
    let (asked, told) = (from.take_all(), to.take_all());
    assert_eq!((asked["manifest"], asked["read_blob"]), (3, 1), "the second layer only");
    assert_eq!((told["resolve"], told["push_blob"], told["push_manifest"]), (3, 2, 2), "{told:?}");
    copy(&source, &tag("v1").into(), &destination, &tags).await.unwrap();
    let (asked, told) = (from.take_all(), to.take_all());
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), [("manifest", 1)], "to know what the tag points at");
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [("resolve", 2)], "the manifest and the tag are there");
    // A destination that lost something below a manifest is mended only if asked to.
    to.delete_blob(&repository("b"), &Digest::sha256_of(b"two")).await.unwrap();
    let report = copy(&source, &tag("v1").into(), &destination, &CopyOptions::default()).await.unwrap();
    assert_eq!(report.blobs_copied, 0);
    let verify = options(|options| options.verify = true);
    let report = copy(&source, &tag("v1").into(), &destination, &verify).await.unwrap();
    assert_eq!((report.blobs_copied, report.blobs_existing, report.manifests_existing), (1, 2, 3));
}

#[tokio::test]
async fn within_one_registry_blobs_are_mounted() {
    let counted = Scripted::remote(memory());
    let graph = graph(&counted, "a").await;
    counted.take_all();
    let registry: Arc<dyn Registry> = Arc::new(counted.clone());
    let from = Place::new(Arc::clone(&registry), repository("a"));
    let to = Place::new(registry, repository("b"));
    let report = copy(&from, &graph.index.digest.into(), &to, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.blobs_mounted, report.blobs_copied), (3, 0));
    assert_eq!(counted.take("read_blob"), 0);
    let elsewhere = place(counted.clone(), "c");
    let same = options(|options| options.same_registry = true);
    assert_eq!(copy(&from, &graph.index.digest.into(), &elsewhere, &same).await.unwrap().blobs_mounted, 3);
    let back = copy(&from, &graph.index.digest.into(), &from, &CopyOptions::default()).await.unwrap();
    assert_eq!((back.manifests_existing, back.bytes), (1, 0), "onto itself there is nothing to do");
}

#[tokio::test]
async fn the_tag_comes_last() {
    let (from, to) = (Scripted::new(memory()), Scripted::new(memory()));
    let graph = graph(&from, "a").await;
    let (source, destination) = (place(from, "a"), place(to.clone(), "b"));
    let all = options(|options| (options.tags, options.referrers) = (vec![tag("v1")], true));
    for fails_after in 0.. {
        to.fail_pushes_after(Some(fails_after));
        let copied = copy(&source, &graph.index.digest.into(), &destination, &all).await;
        to.fail_pushes_after(None);
        if copied.is_ok() {
            assert!(fails_after > 0, "failures do fail");
            break;
        }
        let tagged = to.resolve(&repository("b"), &tag("v1").into()).await;
        assert!(tagged.unwrap_err().is_not_found(), "tagged after a failure at push {fails_after}");
    }
    for referrer in &graph.referrers {
        assert!(has(&destination, referrer).await);
    }
    assert!(to.resolve(&repository("b"), &tag("v1").into()).await.is_ok());
}

#[tokio::test]
async fn an_index_may_list_blobs_and_layers_may_be_elsewhere() {
    let (from, to) = (place(MemoryRegistry::new(), "a"), place(MemoryRegistry::new(), "b"));
    let listed = put(&*from.registry, "a", "a listed blob").await;
    put(&*from.registry, "a", "{}").await;
    let foreign = Descriptor::of("application/vnd.oci.image.layer.nondistributable.v1.tar", b"not here");
    let child = ImageManifest::artifact("a/b", vec![foreign]).to_bytes();
    let child = PushManifest::new(media_type::IMAGE_MANIFEST, child);
    from.registry.push_manifest(&from.repository, child.clone()).await.unwrap();
    let children = vec![Descriptor::new("text/plain", listed, 13), descriptor(&child)];
    let index = PushManifest::new(media_type::IMAGE_INDEX, ImageIndex::new(children).to_bytes());
    from.registry.push_manifest(&from.repository, index.clone()).await.unwrap();
    let report = copy(&from, &index.digest.into(), &to, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.manifests_copied, report.blobs_copied), (2, 2));
    assert_eq!(read(&*to.registry, "b", &listed).await, "a listed blob");
}

#[tokio::test]
async fn graphs_over_a_limit_are_refused() {
    let (from, to) = (place(MemoryRegistry::new(), "a"), place(MemoryRegistry::new(), "b"));
    let graph = graph(&*from.registry, "a").await;
    for change in [
        (|options| options.max_manifests = 2) as fn(&mut CopyOptions),
        |options| options.max_depth = 0,
        |options| (options.max_depth, options.referrers) = (1, true),
        |options| (options.max_manifests, options.referrers) = (5, true),
    ] {
        let refused = copy(&from, &graph.index.digest.into(), &to, &options(change)).await;
        assert!(matches!(refused, Err(RegistryError::TooLarge { .. })), "{refused:?}");
    }
    assert!(to.registry.tags(&to.repository, &PageRequest::first()).await.unwrap_err().is_not_found());
    for change in [
        (|options| options.max_manifests = 3) as fn(&mut CopyOptions),
        |options| options.max_depth = 1,
        |options| (options.max_depth, options.max_manifests, options.referrers) = (2, 6, true),
    ] {
        copy(&from, &graph.index.digest.into(), &to, &options(change)).await.unwrap();
    }
}

#[tokio::test]
async fn the_first_failure_ends_it() {
    let (from, to) = (Scripted::remote(memory()), Scripted::remote(memory()));
    let graph = graph(&from, "a").await;
    let (source, destination) = (place(from.clone(), "a"), place(to.clone(), "b"));
    let missing: Repository = repository("missing");
    let nowhere = Place::new(Arc::clone(&source.registry), missing);
    let copied = copy(&nowhere, &tag("v1").into(), &destination, &CopyOptions::default()).await;
    assert!(copied.unwrap_err().is_not_found());
    to.fail_with(Some(ErrorCode::Denied));
    let target = graph.index.digest.into();
    assert_eq!(code(copy(&source, &target, &destination, &CopyOptions::default()).await), ErrorCode::Denied);
    to.fail_with(None);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watch = Arc::clone(&seen);
    let progress = move |event: &Event<'_>| {
        if let Event::Uploading { what, .. } = event {
            watch.lock().unwrap().push((*what).to_owned());
        }
        ControlFlow::Break(())
    };
    let mut watched = options(|options| options.concurrency = 1);
    watched.progress = Some(Arc::new(progress));
    copy(&source, &target, &destination, &watched).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [Digest::sha256_of(b"{}").to_string()]);
    assert!(!has(&destination, &graph.index).await);
}

#[tokio::test]
async fn layers_of_the_first_schema_of_docker_are_copied() {
    let (from, to) = (place(MemoryRegistry::new(), "old/image"), place(MemoryRegistry::new(), "new/image"));
    put(&*from.registry, "old/image", "a layer of old").await;
    let layer = Digest::sha256_of(b"a layer of old");
    let image = format!(r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{layer}"}},{{"blobSum":"{layer}"}}]}}"#);
    let push = PushManifest::new(media_type::DOCKER_MANIFEST_1, image.into_bytes()).with_tags([tag("v1")]);
    from.registry.push_manifest(&from.repository, push.clone()).await.unwrap();
    let report = copy(&from, &tag("v1").into(), &to, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.manifests_copied, report.blobs_copied), (1, 1));
    assert!(has(&to, &push).await);
    assert_eq!(to.registry.stat_blob(&to.repository, &layer).await.unwrap(), 14);
}

/// Lists that clients keep may name what was deleted since.
#[cfg(all(feature = "client", feature = "server"))]
#[tokio::test]
async fn referrers_that_are_listed_and_gone_are_left_out() {
    use blob_testkit::proxy::{Action, Faults, Proxy, ProxyOptions, Rule};
    let registry = MemoryRegistry::new();
    let graph = graph(&registry, "a/b").await;
    let server = blob_registry::Server::builder(Arc::new(registry)).bind("127.0.0.1:0").await.unwrap();
    for (gone, expected) in [(&graph.referrers[2], Some(1)), (&graph.children[0], None)] {
        let rule = Rule::every(&format!("/manifests/{}", gone.digest), Action::status(404));
        let options = ProxyOptions { faults: Faults::script(vec![rule]), ..ProxyOptions::default() };
        let proxy = Proxy::start(server.local_addr(), options).unwrap();
        let from = place(crate::client::client(proxy.addr()), "a/b");
        let to = place(MemoryRegistry::new(), "a/b");
        let with_referrers = options_with_referrers();
        let copied = copy(&from, &tag("v1").into(), &to, &with_referrers).await;
        match (copied, expected) {
            (Ok(report), Some(missing)) => assert_eq!(report.referrers_missing, missing),
            (Err(error), None) => {
                assert!(!error.is_not_found(), "the artifact itself is there: {error:?}");
                assert!(error.to_string().contains(&gone.digest.to_string()), "{error}");
            }
            (copied, _) => panic!("{copied:?}"),
        }
    }
}

#[cfg(all(feature = "client", feature = "server"))]
fn options_with_referrers() -> CopyOptions {
    options(|options| options.referrers = true)
}

#[tokio::test]
async fn a_destination_that_has_less_than_it_says_is_sent_it() {
    let (from, behind) = (place(MemoryRegistry::new(), "a"), memory());
    let liar = Scripted::new(Arc::clone(&behind));
    liar.claim_blobs();
    let to = place(liar.clone(), "b");
    let graph = graph(&*from.registry, "a").await;
    let referred = options(|options| (options.tags, options.referrers) = (vec![tag("v1")], true));
    let report = copy(&from, &tag("v1").into(), &to, &referred).await.unwrap();
    assert_eq!((report.manifests_copied, report.blobs_existing), (6, 0), "{report:?}");
    assert_eq!(read(&*behind, "b", &Digest::sha256_of(b"one")).await, "one");
    assert!(has(&to, &graph.index).await);

    // A tag alone: the manifest is there, what it names is not any more.
    behind.delete_blob(&to.repository, &Digest::sha256_of(b"{}")).await.unwrap();
    let one = Target::from(graph.children[0].digest);
    let report = copy(&from, &one, &to, &options(|options| options.tags = vec![tag("one")])).await.unwrap();
    assert_eq!((report.manifests_copied, report.blobs_copied, report.bytes), (0, 1, 2), "{report:?}");
    assert_eq!(read(&*behind, "b", &Digest::sha256_of(b"{}")).await, "{}");
}

/// What a manifest claims about sizes is added up without an end, and refused where it cannot be a size at all.
#[tokio::test]
async fn sizes_that_cannot_be_are_no_sums() {
    let from = place(MemoryRegistry::new().with_sparse(true), "a");
    let layers = |size: u64| -> Vec<Descriptor> {
        (0..3_u8).map(|number| Descriptor::new("a/b", Digest::sha256_of(&[number]), size)).collect()
    };
    let manifest = ImageManifest::artifact("a/b", layers(i64::MAX as u64));
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes()).with_tags([tag("v1")]);
    from.registry.push_manifest(&from.repository, push).await.unwrap();
    let dry = options(|options| options.dry_run = true);
    let report = copy(&from, &tag("v1").into(), &place(MemoryRegistry::new(), "b"), &dry).await.unwrap();
    assert_eq!((report.blobs_copied, report.bytes), (4, u64::MAX), "{report:?}");
    let limited = options(|options| (options.dry_run, options.max_bytes) = (true, Some(1 << 40)));
    let error = copy(&from, &tag("v1").into(), &place(MemoryRegistry::new(), "b"), &limited).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { size: u64::MAX, .. }), "{error:?}");

    let manifest = ImageManifest::artifact("a/b", layers(u64::MAX));
    let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes());
    assert_eq!(code(from.registry.push_manifest(&from.repository, push).await), ErrorCode::ManifestInvalid);
}

/// Lists that clients keep may name anything.
#[tokio::test]
async fn what_is_listed_as_a_referrer_and_is_none_is_left_out() {
    let inner = memory();
    let graph = graph(&*inner, "a").await;
    let stranger = put_artifact(&*inner, "a", "secret", &["secret"]).await;
    let liar = Scripted::new(Arc::clone(&inner));
    // The first child is a part of the index: that somebody lists it as a referrer takes nothing from that.
    for listed in [&stranger, &graph.children[0]] {
        liar.list_referrer(descriptor(listed));
    }
    let (from, to) = (place(liar, "a"), place(MemoryRegistry::new(), "b"));
    let with_referrers = options(|options| options.referrers = true);
    let report = copy(&from, &tag("v1").into(), &to, &with_referrers).await.unwrap();
    assert_eq!(report.manifests_copied, 6, "{report:?}");
    assert!(report.referrers_missing > 0, "{report:?}");
    assert!(has(&to, &graph.children[0]).await && has(&to, &graph.referrers[1]).await);
    assert!(!has(&to, &stranger).await);
}

/// A destination that keeps nothing is not served for ever.
#[tokio::test]
async fn what_was_sent_again_is_not_sent_again_and_again() {
    let from = place(MemoryRegistry::new(), "a");
    let mut below = put_artifact(&*from.registry, "a", "layer", &[]).await;
    for depth in 0..9 {
        let mut index = ImageIndex::new(vec![descriptor(&below)]);
        index.annotations.insert("depth".into(), depth.to_string());
        below = PushManifest::new(media_type::IMAGE_INDEX, index.to_bytes()).with_tags([tag("v1")]);
        from.registry.push_manifest(&from.repository, below.clone()).await.unwrap();
    }
    let forgetful = Scripted::new(memory());
    forgetful.keep_nothing();
    let to = place(forgetful.clone(), "b");
    let deep = options(|options| options.max_depth = 12);
    let _ = copy(&from, &tag("v1").into(), &to, &deep).await;
    let pushes = forgetful.take("push_manifest");
    assert!(pushes <= 2 * 3 * 10, "{pushes}");
}

/// Two indexes need the same child, which takes its time: both wait for it.
#[tokio::test(start_paused = true)]
async fn a_child_that_is_sent_again_is_waited_for() {
    let from = place(MemoryRegistry::new(), "a");
    let child = put_artifact(&*from.registry, "a", "layer", &[]).await;
    let mut parents = Vec::new();
    for mark in ["one", "two"] {
        let mut index = ImageIndex::new(vec![descriptor(&child)]);
        index.annotations.insert("mark".into(), mark.into());
        let push = PushManifest::new(media_type::IMAGE_INDEX, index.to_bytes());
        from.registry.push_manifest(&from.repository, push.clone()).await.unwrap();
        parents.push(push);
    }
    let root = ImageIndex::new(parents.iter().map(descriptor).collect());
    let root = PushManifest::new(media_type::IMAGE_INDEX, root.to_bytes()).with_tags([tag("v1")]);
    from.registry.push_manifest(&from.repository, root.clone()).await.unwrap();
    let forgetful = Scripted::new(memory());
    let to = place(forgetful.clone(), "b");
    copy(&from, &tag("v1").into(), &to, &options(|options| options.concurrency = 1)).await.unwrap();
    // It says that it has the child, and lost it; to send it takes a second.
    for lost in [&child, &parents[0], &parents[1], &root] {
        to.registry.delete_manifest(&to.repository, &lost.digest).await.unwrap();
    }
    forgetful.claim_manifest(child.digest);
    forgetful.delay("push_manifest", std::time::Duration::from_secs(1));
    copy(&from, &tag("v1").into(), &to, &options(|options| options.tags = vec![tag("v1")])).await.unwrap();
    assert!(has(&to, &root).await && has(&to, &parents[1]).await);
}
