//! Filters: what they let through is unchanged, what they refuse is refused.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use blob_core::Digest;
use blob_registry::filter::{
    Access, AccessKind, Delegate, Fault, Faults, Immutable, Limit, Log, Prefix, Quota, Quotas, ReadOnly, Select, Sizes,
    Usage,
};
use blob_registry::{ErrorCode, Mount, PageRequest, PushedBlob, Registry, RegistryError, Repository, Target};
use proptest::prelude::*;

use crate::kit::{
    Result, Scripted, artifact, blob, code, every_repository, memory, put, put_artifact, read, repository, tag,
};

mod clauses;

/// What every call of the trait answers in `name`: `None` for success, else the code. Calls that create come first.
pub(crate) async fn every_call(registry: &dyn Registry, name: &str) -> Vec<(&'static str, Option<ErrorCode>)> {
    fn of<T>(result: Result<T>) -> Option<ErrorCode> {
        result.err().map(|error| error.error_code())
    }
    let (name, all) = (repository(name), PageRequest::first());
    let empty = Digest::sha256_of(b"{}");
    let manifest = artifact("{}", None).with_tags([tag("v1")]);
    let v1 = Target::from(tag("v1"));
    let id = match registry.start_upload(&name).await {
        Ok(upload) => upload.id(),
        Err(_) => blob_registry::UploadId::new("0123456789abcdef0123456789abcdef"),
    };
    vec![
        ("push_blob", of(registry.push_blob(&name, blob("{}")).await)),
        ("start_upload", of(registry.start_upload(&name).await)),
        ("resume_upload", of(registry.resume_upload(&name, &id).await)),
        ("mount_blob", of(registry.mount_blob(&name, &empty, Some(&name)).await)),
        ("push_manifest", of(registry.push_manifest(&name, manifest.clone()).await)),
        ("resolve", of(registry.resolve(&name, &v1).await)),
        ("manifest", of(registry.manifest(&name, &v1).await)),
        ("stat_blob", of(registry.stat_blob(&name, &empty).await)),
        ("read_blob", of(registry.read_blob(&name, &empty, None).await)),
        ("local_blob", of(registry.local_blob(&name, &empty).await)),
        ("tags", of(registry.tags(&name, &all).await)),
        ("referrers", of(registry.referrers(&name, &manifest.digest, None, &all).await)),
        ("delete_tag", of(registry.delete_tag(&name, &tag("v1")).await)),
        ("delete_manifest", of(registry.delete_manifest(&name, &manifest.digest).await)),
        ("delete_blob", of(registry.delete_blob(&name, &empty).await)),
    ]
}

const WRITES: [&str; 5] = ["push_blob", "start_upload", "resume_upload", "mount_blob", "push_manifest"];
const DELETES: [&str; 3] = ["delete_tag", "delete_manifest", "delete_blob"];

/// Expects `code` from the calls in `refused`, success from the others.
async fn assert_refused(registry: &dyn Registry, refused: &[&str], expected: ErrorCode) {
    for (call, got) in every_call(registry, "a").await {
        assert_eq!(got, refused.contains(&call).then_some(expected), "{call}");
    }
}

#[tokio::test]
async fn the_list_of_calls_is_one_that_a_plain_registry_answers() {
    assert_refused(&*memory(), &[], ErrorCode::Unknown).await;
}

#[tokio::test]
async fn read_only_refuses_every_write() {
    let inner = memory();
    put(&*inner, "a", "{}").await;
    inner.push_manifest(&repository("a"), artifact("{}", None).with_tags([tag("v1")])).await.unwrap();
    let refused = [WRITES.as_slice(), &DELETES].concat();
    assert_refused(&ReadOnly::new(inner), &refused, ErrorCode::Unsupported).await;
}

#[tokio::test]
async fn immutable_refuses_deletions() {
    assert_refused(&Immutable::new(memory()), &DELETES, ErrorCode::Unsupported).await;
}

#[tokio::test]
async fn immutable_tags_are_set_once() {
    let inner = memory();
    let one = put_artifact(&*inner, "a", "one", &[]).await.with_tags([tag("v1")]);
    let two = put_artifact(&*inner, "a", "two", &[]).await;
    let (kept, name) = (Immutable::new(inner), repository("a"));
    for _ in 0..2 {
        kept.push_manifest(&name, one.clone()).await.expect("the same again is fine");
    }
    let both = two.clone().with_tags([tag("v0"), tag("v1")]);
    assert_eq!(code(kept.push_manifest(&name, both).await), ErrorCode::Denied);
    assert!(kept.resolve(&name, &tag("v0").into()).await.unwrap_err().is_not_found(), "all tags or none");
    assert_eq!(kept.resolve(&name, &tag("v1").into()).await.unwrap().digest, one.digest);
    let mut again = one.clone();
    again.if_match = Some(two.digest);
    assert_eq!(code(kept.push_manifest(&name, again.clone()).await), ErrorCode::PreconditionFailed);
    again.if_match = Some(one.digest);
    kept.push_manifest(&name, again).await.expect("the condition holds");
}

#[tokio::test(start_paused = true)]
async fn of_many_that_want_a_tag_one_gets_it() {
    let inner = Scripted::new(memory());
    inner.delay("push_manifest", std::time::Duration::from_millis(5));
    let mut pushes = Vec::new();
    for layer in 0..8 {
        pushes.push(put_artifact(&inner, "a", &layer.to_string(), &[]).await.with_tags([tag("x"), tag("v1")]));
    }
    let (kept, name) = (Immutable::new(Arc::new(inner)), repository("a"));
    let results =
        futures_util::future::join_all(pushes.iter().map(|push| kept.push_manifest(&name, push.clone()))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let winner = results.into_iter().flatten().next().unwrap().digest;
    assert_eq!(kept.resolve(&name, &tag("v1").into()).await.unwrap().digest, winner);
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_somebody_else_moves_is_told() {
    let inner = memory();
    let other = put_artifact(&*inner, "a", "other", &[]).await.with_tags([tag("v1")]);
    let ours = put_artifact(&*inner, "a", "ours", &[]).await.with_tags([tag("v1")]);
    let slow = Scripted::new(Arc::clone(&inner));
    slow.delay("resolve", std::time::Duration::from_millis(50));
    let (kept, name) = (Immutable::new(Arc::new(slow)), repository("a"));
    let (pushed, ()) = tokio::join!(kept.push_manifest(&name, ours), async {
        tokio::time::sleep(std::time::Duration::from_millis(75)).await;
        inner.push_manifest(&name, other).await.unwrap();
    });
    assert_eq!(code(pushed), ErrorCode::Denied);
}

#[tokio::test]
async fn prefix_is_a_view_below_a_name() {
    let inner = memory();
    let below = Prefix::new(Arc::clone(&inner), repository("team"));
    put_artifact(&below, "assets", "one", &["v1"]).await;
    let tags = inner.tags(&repository("team/assets"), &PageRequest::first()).await.unwrap();
    assert_eq!(tags.items, [tag("v1")]);
    let secret = put(&*inner, "other", "secret").await;
    let name = repository("x");
    for from in [None, Some(&repository("other"))] {
        let mount = below.mount_blob(&name, &secret, from).await.unwrap();
        assert!(matches!(mount, Mount::Session(_)), "nothing comes from outside: {from:?}");
    }
    let mut push = blob("one");
    push.mount_from = vec![repository("assets")];
    assert_eq!(below.push_blob(&name, push).await.unwrap(), PushedBlob::Mounted);
    let long = repository(&"a".repeat(253));
    assert_eq!(code(below.tags(&long, &PageRequest::first()).await), ErrorCode::NameInvalid);
}

#[tokio::test]
async fn select_hides_repositories() {
    let inner = memory();
    for name in ["a", "hidden"] {
        put_artifact(&*inner, name, "{}", &["v1"]).await;
    }
    let seen = Select::new(Arc::clone(&inner), |name| name.as_str() != "hidden");
    for (call, got) in every_call(&seen, "hidden").await {
        let expected = if WRITES.contains(&call) { ErrorCode::Denied } else { ErrorCode::NameUnknown };
        assert_eq!(got, Some(expected), "{call}");
    }
    assert_refused(&seen, &[], ErrorCode::Unknown).await;
    let (secret, name) = (put(&*inner, "hidden", "secret").await, repository("b"));
    for from in [None, Some(&repository("hidden"))] {
        let mount = seen.mount_blob(&name, &secret, from).await.unwrap();
        assert!(matches!(mount, Mount::Session(_)), "nothing comes from a hidden repository: {from:?}");
    }
    let mut push = blob("secret");
    push.mount_from = vec![repository("hidden")];
    assert_eq!(seen.push_blob(&name, push).await.unwrap(), PushedBlob::Uploaded);
    assert_eq!(every_repository(&seen, None).await, ["a", "b"]);
}

#[tokio::test]
async fn access_is_asked_about_every_call() {
    type Asked = Arc<Mutex<Vec<(AccessKind, Option<String>)>>>;
    let asked: Asked = Arc::default();
    let note = Arc::clone(&asked);
    let watched = Access::new(memory(), move |kind, name| {
        note.lock().unwrap().push((kind, name.map(ToString::to_string)));
        Ok(())
    });
    every_call(&watched, "a").await;
    watched.repositories(&PageRequest::first()).await.unwrap();
    let asked: Vec<_> = std::mem::take(&mut *asked.lock().unwrap());
    // One session more is opened for its id, and the mount asks for reading too.
    let count = |kind| asked.iter().filter(|(asked, _)| *asked == kind).count();
    let counts = [AccessKind::Write, AccessKind::Read, AccessKind::List, AccessKind::Delete].map(count);
    assert_eq!(counts, [6, 6, 3, 3]);
    assert_eq!(asked.iter().filter(|(_, name)| name.is_none()).collect::<Vec<_>>(), [&(AccessKind::List, None)]);
}

#[tokio::test]
async fn access_refuses_by_kind() {
    let kinds = [
        (AccessKind::Read, ["resolve", "manifest", "stat_blob", "read_blob", "local_blob"].as_slice()),
        (AccessKind::Write, &WRITES),
        (AccessKind::Delete, &DELETES),
        (AccessKind::List, &["tags", "referrers"]),
    ];
    for (refused, calls) in kinds {
        let inner = memory();
        put(&*inner, "a", "{}").await;
        inner.push_manifest(&repository("a"), artifact("{}", None).with_tags([tag("v1")])).await.unwrap();
        let access = Access::new(inner, move |kind, _| {
            if kind == refused { Err(RegistryError::code("asking", ErrorCode::Unauthorized)) } else { Ok(()) }
        });
        assert_refused(&access, calls, ErrorCode::Unauthorized).await;
        let listed = access.repositories(&PageRequest::first()).await;
        assert_eq!(listed.is_err(), refused == AccessKind::List);
    }
}

#[tokio::test]
async fn access_makes_sessions_of_mounts_that_may_not_read() {
    let inner = memory();
    let secret = put(&*inner, "secret", "content").await;
    let access = Access::new(inner, |kind, name| match (kind, name.map(Repository::as_str)) {
        (AccessKind::Read, None | Some("secret")) => Err(RegistryError::code("asking", ErrorCode::Denied)),
        _ => Ok(()),
    });
    for from in [None, Some(&repository("secret"))] {
        let mount = access.mount_blob(&repository("a"), &secret, from).await.unwrap();
        assert!(matches!(mount, Mount::Session(_)), "{from:?}");
    }
    let mut push = blob("content");
    push.mount_from = vec![repository("secret")];
    assert_eq!(access.push_blob(&repository("a"), push).await.unwrap(), PushedBlob::Uploaded);
}

#[tokio::test]
async fn limit_takes_nothing_over_a_size() {
    let mut sizes = Sizes::default();
    (sizes.blob, sizes.manifest) = (5, 10);
    let inner = memory();
    let (limited, name) = (Limit::new(Arc::clone(&inner), sizes), repository("a"));
    put(&limited, "a", "12345").await;
    let large = |result: Result<()>| assert!(matches!(result, Err(RegistryError::TooLarge { .. })), "{result:?}");
    large(limited.push_blob(&name, blob("123456")).await.map(drop));
    large(limited.push_manifest(&name, artifact("x", None)).await.map(drop));
    let absent = Digest::sha256_of(b"absent");
    let Mount::Session(mounted) = limited.mount_blob(&name, &absent, None).await.unwrap() else { panic!("mounted") };
    for mut upload in [limited.start_upload(&name).await.unwrap(), mounted] {
        upload.append("123".into()).await.unwrap();
        let mut upload = limited.resume_upload(&name, &upload.id()).await.unwrap();
        large(upload.append("456".into()).await);
        upload.append("45".into()).await.unwrap();
        upload.commit(&Digest::sha256_of(b"12345")).await.unwrap();
    }
    let mut open = inner.start_upload(&name).await.unwrap();
    open.append("123456".into()).await.unwrap();
    let open = limited.resume_upload(&name, &open.id()).await.unwrap();
    large(open.commit(&Digest::sha256_of(b"123456")).await);
}

/// A place for log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn log_tells_of_every_call_and_of_nothing_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).without_time().finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let logged = Log::new(memory());
    let calls = every_call(&logged, "a").await;
    let mut upload = logged.start_upload(&repository("a")).await.unwrap();
    let id = upload.id();
    upload.append("top secret".into()).await.unwrap();
    upload.commit(&Digest::sha256_of(b"top secret")).await.unwrap();
    logged.start_upload(&repository("a")).await.unwrap().cancel().await.unwrap();
    read(&logged, "a", &Digest::sha256_of(b"top secret")).await;
    logged.repositories(&PageRequest::first()).await.unwrap();
    assert_eq!(code(logged.resolve(&repository("a"), &tag("no").into()).await), ErrorCode::ManifestUnknown);
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for call in calls.iter().map(|(call, _)| *call).chain(["append", "commit", "cancel", "repositories"]) {
        assert!(text.contains(&format!("operation=\"{call}\"")), "{call}: {text}");
    }
    let has = |parts: &[&str]| text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["operation=\"append\"", "repository=\"a\"", "code=\"OK\"", "bytes=10", "micros="]), "{text}");
    assert!(has(&["operation=\"read_blob\"", "code=\"OK\"", "bytes=10"]), "{text}");
    assert!(has(&["operation=\"read_blob\"", "code=\"CANCELLED\"", "bytes=0"]), "a reader that was dropped: {text}");
    assert!(has(&["operation=\"resolve\"", "object=\"no\"", "code=\"MANIFEST_UNKNOWN\""]), "{text}");
    for secret in ["top secret", id.as_str()] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

/// Names near a prefix, in front of it and behind it.
fn names() -> impl Strategy<Value = BTreeSet<String>> {
    let name = proptest::sample::select(vec![
        "a",
        "team",
        "team-a",
        "team.a",
        "team0",
        "team/a",
        "team/a/b",
        "team/b",
        "team/c",
        "team/team",
        "teams/a",
        "z",
    ]);
    proptest::collection::btree_set(name.prop_map(str::to_owned), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_of_views_are_exact(names in names(), hidden in names(), limit in proptest::option::of(1_usize..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let inner = memory();
            for name in &names {
                put(&*inner, name, "x").await;
            }
            let below: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("team/")).collect();
            let prefix = Prefix::new(Arc::clone(&inner), repository("team"));
            assert_eq!(every_repository(&prefix, limit).await, below);
            let shown: Vec<String> = names.difference(&hidden).cloned().collect();
            let select = Select::new(inner, move |name| !hidden.contains(name.as_str()));
            assert_eq!(every_repository(&select, limit).await, shown);
        });
    }
}

#[tokio::test]
async fn views_of_long_lists_cost_few_requests() {
    let inner = memory();
    for number in 0..450 {
        put(&*inner, &format!("hidden/r{number:04}"), "x").await;
    }
    put(&*inner, "z", "x").await;
    let counted = Scripted::new(inner);
    let seen = Select::new(Arc::new(counted.clone()), |name| name.as_str() == "z");
    assert_eq!(every_repository(&seen, Some(1)).await, ["z"]);
    assert_eq!(counted.take("repositories"), 5, "100 at a time, however few are asked for");
    let none = seen.repositories(&PageRequest::first().limit(0)).await.unwrap();
    assert_eq!((none.items.len(), none.next), (0, None));
}

/// Several processes write one directory, each with a filter of its own; a tag is still set once.
#[cfg(feature = "layout")]
#[tokio::test(flavor = "multi_thread")]
async fn immutable_tags_hold_between_filters_that_do_not_know_of_each_other() {
    use blob_registry::{LayoutStore, Server};
    let directory = tempfile::tempdir().unwrap();
    let (mut members, mut servers) = (Vec::<Arc<dyn Registry>>::new(), Vec::new());
    for served in [false, true] {
        let store: Arc<dyn Registry> = Arc::new(LayoutStore::open(directory.path()).await.unwrap());
        let kept: Arc<dyn Registry> = Arc::new(Immutable::new(store));
        if served {
            let server = Server::builder(kept).bind("127.0.0.1:0").await.unwrap();
            members.push(Arc::new(crate::client::client(server.local_addr())));
            servers.push(server);
        } else {
            members.push(kept);
        }
    }
    let pushes = [put_artifact(&*members[0], "x", "one", &[]).await, put_artifact(&*members[0], "x", "two", &[]).await];
    for round in 0..40 {
        let name = format!("v{round}");
        let push = |at: usize| {
            let (member, push) = (Arc::clone(&members[at]), pushes[at].clone().with_tags([tag(&name)]));
            tokio::spawn(async move { member.push_manifest(&repository("x"), push).await })
        };
        let (first, second) = (push(0), push(1));
        let outcomes = [first.await.unwrap(), second.await.unwrap()];
        let won: Vec<usize> = (0..2).filter(|&at| outcomes[at].is_ok()).collect();
        assert_eq!(won.len(), 1, "round {round}: {outcomes:?}");
        let now = members[0].resolve(&repository("x"), &Target::from(tag(&name))).await.unwrap();
        assert_eq!(now.digest, pushes[won[0]].digest, "round {round}");
        let lost = outcomes.into_iter().find_map(Result::err).unwrap();
        assert_eq!(lost.error_code(), ErrorCode::Denied, "{lost:?}");
    }
}

/// A store whose use is what a test says.
#[derive(Debug, Default)]
struct Said(std::sync::atomic::AtomicU64);

#[async_trait::async_trait]
impl Usage for Said {
    async fn used(&self, _: Option<&Repository>) -> Result<u64> {
        Ok(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// A quota over a store that is said to be empty.
fn quota(inner: Arc<dyn Registry>, repository: Option<u64>, total: Option<u64>) -> Quota {
    let mut quotas = Quotas::default();
    (quotas.repository, quotas.total) = (repository, total);
    Quota::new(inner, Arc::new(Said::default()), quotas)
}

#[tokio::test]
async fn what_is_over_a_quota_does_not_come_in() {
    let (inner, x, y) = (memory(), repository("x"), repository("y"));
    let registry = quota(Arc::clone(&inner), Some(20), Some(30));
    registry.push_blob(&x, blob("0123456789")).await.unwrap();
    let error = registry.push_blob(&x, blob("01234567891")).await.unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::Denied);
    assert!(error.to_string().contains("repository x may have 20 bytes and has 10; 11 more are too many"), "{error}");
    assert_eq!(registry.push_blob(&x, blob("0123456789")).await.unwrap(), PushedBlob::Existing, "it is there");
    registry.push_blob(&x, blob("other56789")).await.unwrap();
    assert_eq!(code(registry.push_manifest(&x, artifact("x", None)).await), ErrorCode::Denied);

    let mut upload = registry.start_upload(&y).await.unwrap();
    upload.append("01234".into()).await.unwrap();
    let error = upload.append("567890".into()).await.unwrap_err();
    assert!(error.to_string().contains("the registry may have 30 bytes and has 25"), "{error}");
    upload.append("56789".into()).await.unwrap();
    upload.commit(&Digest::sha256_of(b"0123456789")).await.unwrap();
    assert_eq!(read(&*inner, "y", &Digest::sha256_of(b"0123456789")).await, "0123456789");
    assert_eq!(code(registry.push_blob(&y, blob("x")).await), ErrorCode::Denied);
}

/// What is deleted makes room when the store is asked again, and what is refused takes none.
#[tokio::test(start_paused = true)]
async fn quotas_ask_the_store_from_time_to_time() {
    let (said, x) = (Arc::new(Said::default()), repository("x"));
    let mut quotas = Quotas::default();
    (quotas.repository, quotas.recount) = (Some(20), std::time::Duration::from_secs(5));
    let refuses = Scripted::new(memory());
    let registry = Quota::new(Arc::new(refuses.clone()), Arc::clone(&said) as Arc<dyn Usage>, quotas);
    refuses.fail_with(Some(ErrorCode::TooManyRequests));
    registry.push_blob(&x, blob("0123456789")).await.unwrap_err();
    refuses.fail_with(None);
    registry.push_blob(&x, blob("01234567890123456789")).await.unwrap();
    assert_eq!(code(registry.push_blob(&x, blob("y")).await), ErrorCode::Denied);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    registry.push_blob(&x, blob("y")).await.unwrap();
    said.0.store(20, std::sync::atomic::Ordering::SeqCst);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    assert_eq!(code(registry.push_blob(&x, blob("z")).await), ErrorCode::Denied);
}

#[tokio::test]
async fn stores_tell_what_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let layout = blob_registry::LayoutStore::open(directory.path()).await.unwrap();
    let memory = blob_registry::MemoryRegistry::new();
    for (registry, usage) in
        [(&memory as &dyn Registry, &memory as &dyn Usage), (&layout as &dyn Registry, &layout as &dyn Usage)]
    {
        assert_eq!(usage.used(None).await.unwrap(), 0);
        let manifest = put_artifact(registry, "a", "0123456789", &["v1"]).await.bytes.len() as u64;
        put(registry, "b/c", "four").await;
        registry.start_upload(&repository("b/c")).await.unwrap().append("123".into()).await.unwrap();
        assert_eq!(usage.used(Some(&repository("a"))).await.unwrap(), manifest + 12);
        assert_eq!(usage.used(Some(&repository("b/c"))).await.unwrap(), 7);
        assert_eq!(usage.used(None).await.unwrap(), manifest + 19);
        assert_eq!(usage.used(Some(&repository("none"))).await.unwrap(), 0);
    }
    // A mount is another name of the same file: it counts for its repository, and once for all.
    let before = layout.used(None).await.unwrap();
    for name in ["m/1", "m/2"] {
        let mounted = layout.mount_blob(&repository(name), &Digest::sha256_of(b"four"), None).await.unwrap();
        assert!(matches!(mounted, Mount::Mounted));
        assert_eq!(layout.used(Some(&repository(name))).await.unwrap(), 4);
    }
    assert_eq!(layout.used(None).await.unwrap(), before);
}

/// A store that takes its time to count.
#[derive(Debug, Default)]
struct Slow(std::sync::atomic::AtomicUsize);

#[async_trait::async_trait]
impl Usage for Slow {
    async fn used(&self, _repository: Option<&Repository>) -> Result<u64> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        Ok(10)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_is_counted_once_for_all_who_ask() {
    let (slow, x) = (Arc::new(Slow::default()), repository("x"));
    let mut quotas = Quotas::default();
    (quotas.total, quotas.recount) = (Some(17), std::time::Duration::from_secs(5));
    let registry = Quota::new(memory(), Arc::clone(&slow) as Arc<dyn Usage>, quotas);
    let pushes = (0..8).map(|number| registry.push_blob(&x, blob(["0", "1", "2", "3", "4", "5", "6", "7"][number])));
    let outcomes = futures_util::future::join_all(pushes).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 7, "{outcomes:?}");
    assert_eq!(slow.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn faults_come_and_what_is_done_is_right() {
    let (inner, x) = (memory(), repository("x"));
    put(&*inner, "x", "0123456789").await;
    let faulty = |change: fn(&mut Faults)| {
        let mut faults = Faults::seeded(5);
        change(&mut faults);
        Fault::new(Arc::clone(&inner), faults)
    };
    let refuses = faulty(|faults| faults.refuse = 1000);
    for (call, outcome) in every_call(&refuses, "x").await {
        assert!(outcome.is_some() || call == "local_blob", "{call}");
    }
    assert_eq!(refuses.failures(), 15 - 1 + 1, "each of them, and the session before");
    assert!(inner.tags(&x, &PageRequest::first()).await.unwrap().items.is_empty(), "nothing was done");

    let loses = faulty(|faults| faults.lose = 1000);
    assert!(loses.push_blob(&x, blob("lost")).await.unwrap_err().is_transient());
    assert_eq!(read(&loses, "x", &Digest::sha256_of(b"lost")).await, "lost", "it was done");

    let cuts = faulty(|faults| faults.cut = 1000);
    let reader = cuts.read_blob(&x, &Digest::sha256_of(b"0123456789"), None).await.unwrap();
    let mut came = Vec::new();
    let mut stream = reader.stream;
    let error = loop {
        use futures_util::TryStreamExt as _;
        match stream.try_next().await {
            Ok(Some(bytes)) => came.extend_from_slice(&bytes),
            Ok(None) => panic!("it came whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(came, b"01234");
    assert!(error.is_transient());
}

/// The client copes with a server behind which one call in twenty fails, in any way.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_through_a_registry_that_fails_arrives() {
    use blob_registry::{CopyOptions, Place, Server, copy};
    let mut failures = 0;
    for seed in 0..4 {
        let (from, inner) = (memory(), memory());
        let mut pushed = Vec::new();
        for layer in ["one", "two", "three"] {
            pushed.push(put_artifact(&*from, "a", layer, &[layer]).await);
        }
        let mut faults = Faults::seeded(seed);
        (faults.refuse, faults.lose, faults.cut) = (60, 60, 60);
        (faults.delay, faults.delay_time) = (50, std::time::Duration::from_millis(2));
        let faulty = Fault::new(Arc::clone(&inner), faults);
        let server = Server::builder(Arc::new(faulty.clone())).bind("127.0.0.1:0").await.unwrap();
        let client: Arc<dyn Registry> = Arc::new(crate::client::client(server.local_addr()));
        let (from, to) = (Place::new(from, repository("a")), Place::new(client, repository("b")));
        for (layer, push) in ["one", "two", "three"].into_iter().zip(&pushed) {
            let mut options = CopyOptions::default();
            options.tags.push(tag(layer));
            // What the client gave up for good, a person would try once more.
            let mut tries = 0;
            while let Err(error) = copy(&from, &tag(layer).into(), &to, &options).await {
                tries += 1;
                assert!(tries < 5, "seed {seed}: {error:?}");
            }
            let there = inner.manifest(&repository("b"), &tag(layer).into()).await.unwrap();
            assert_eq!(there.bytes, push.bytes);
            assert_eq!(read(&*inner, "b", &Digest::sha256_of(layer.as_bytes())).await, layer);
        }
        failures += faulty.failures();
    }
    assert!(failures > 8, "{failures}");
}
