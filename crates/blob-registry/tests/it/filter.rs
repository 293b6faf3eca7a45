//! Filters: what they let through is unchanged, what they refuse is refused.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use blob_core::Digest;
use blob_registry::filter::{Access, AccessKind, Immutable, Limit, Log, Prefix, ReadOnly, Select, Sizes};
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
