//! Several writers of one layout. Processes are this test program, started again for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blob_registry::{Descriptor, ImageManifest, LayoutRegistry, PageRequest, PushManifest, Registry, media_type};

use super::{artifact, layout, repository, tag};

/// Set for the test program when it is started again.
const CHILD: &str = "BLOB_REGISTRY_TEST_CHILD";

const WRITERS: usize = 4;
const TAGS: usize = 12;

/// This program, to run `test` with `argument`.
pub(crate) fn again(test: &str, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, argument).stdin(Stdio::null());
    command
}

/// What this program was started again with.
pub(crate) fn argument() -> Option<String> {
    std::env::var(CHILD).ok()
}

async fn write_tags(path: &Path, writer: usize) {
    let layout = LayoutRegistry::open_or_create(path).await.unwrap();
    for number in 0..TAGS {
        let name = format!("w{writer}-{number}");
        let push = artifact(&layout, &name).await.with_tags([tag(&name), tag("shared")]);
        layout.push_manifest(&repository(), push).await.unwrap();
    }
}

async fn assert_whole(path: PathBuf) {
    let layout = LayoutRegistry::open(path).await.unwrap();
    let tags = layout.tags(&repository(), &PageRequest::first()).await.unwrap().items;
    assert_eq!(tags.len(), WRITERS * TAGS + 1, "{tags:?}");
    for tag in tags {
        layout.manifest(&repository(), &tag.into()).await.unwrap();
    }
}

#[tokio::test]
async fn child_that_tags() {
    // Started by the suite itself, this test has nothing to do.
    let Some(argument) = argument() else { return };
    let (writer, path) = argument.split_once('@').unwrap();
    write_tags(Path::new(path), writer.parse().unwrap()).await;
}

#[tokio::test]
async fn processes_that_tag_at_once_lose_nothing() {
    let (_directory, path, _layout) = layout().await;
    let start = |writer| {
        let argument = format!("{writer}@{}", path.display());
        let test = "layout::processes::child_that_tags";
        again(test, &argument).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..WRITERS).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_whole(path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_that_tag_at_once_lose_nothing() {
    let (_directory, path, _layout) = layout().await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let path = path.clone();
            tokio::spawn(async move { write_tags(&path, writer).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_whole(path).await;
}

/// What one handle remembers never hides what another one wrote, however quickly they take turns.
#[tokio::test]
async fn handles_see_each_others_changes_at_once() {
    let (_directory, path, one) = layout().await;
    let other = LayoutRegistry::open(&path).await.unwrap();
    let handles = [&one, &other];
    let subject = artifact(&one, "subject").await;
    one.push_manifest(&repository(), subject.clone()).await.unwrap();
    let mut referrers = 0;
    for turn in 0..30 {
        let (writer, reader) = (handles[turn % 2], handles[(turn + 1) % 2]);
        let push = artifact(writer, &format!("turn {turn}")).await.with_tags([tag("turns")]);
        writer.push_manifest(&repository(), push.clone()).await.unwrap();
        assert_eq!(reader.resolve(&repository(), &tag("turns").into()).await.unwrap().digest, push.digest);
        let mut manifest = ImageManifest::artifact("application/vnd.signature", vec![]);
        manifest.annotations.insert("turn".into(), turn.to_string());
        manifest.subject = Some(Descriptor::new(media_type::IMAGE_MANIFEST, subject.digest, 1));
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest.to_bytes());
        writer.push_manifest(&repository(), push.clone()).await.unwrap();
        referrers += 1;
        let listed = async || {
            let page = reader.referrers(&repository(), &subject.digest, None, &PageRequest::first()).await;
            page.unwrap().items.len()
        };
        assert_eq!(listed().await, referrers);
        if turn % 3 == 0 {
            writer.delete_manifest(&repository(), &push.digest).await.unwrap();
            referrers -= 1;
            assert_eq!(listed().await, referrers);
        }
    }
}
