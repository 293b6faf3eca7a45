//! Archives as files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use blob_core::create::ManifestOutput;
use blob_core::{CreateBlobOptions, CreateError, Created, Event, create_blob};

use super::{paths, text, tree, watch, write};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn with_manifest() -> CreateBlobOptions {
    let mut options = CreateBlobOptions::default();
    let bytes = |created: &Created| created.data_digest.to_string().into_bytes();
    options.manifest = Some(ManifestOutput { name: "manifest.json".into(), bytes: Arc::new(bytes) });
    options
}

#[test]
fn the_files_stand_side_by_side() {
    let (dir, out) = (tree(&[("a", &text(1, 9000)), ("b", b"x")]), tempfile::tempdir().unwrap());
    let dest = out.path().join("made/on the way");
    let created = create_blob(dir.path(), &dest, &with_manifest()).unwrap();
    assert_eq!(names(&dest), ["data.blob", "index.blob", "manifest.json"]);
    assert_eq!(fs::read(dest.join("index.blob")).unwrap(), created.index.as_bytes().to_vec());
    assert!(created.data_digest.matches(&fs::read(dest.join("data.blob")).unwrap()));
    assert_eq!(fs::read_to_string(dest.join("manifest.json")).unwrap(), created.data_digest.to_string());
}

#[test]
fn an_archive_within_the_tree_does_not_hold_itself() {
    let dir = tree(&[("a", b"x"), ("out/other", b"y")]);
    let first = create_blob(dir.path(), &dir.path().join("out"), &with_manifest()).unwrap();
    assert_eq!(paths(&first.index), ["a", "out/other"]);
    let second = create_blob(dir.path(), &dir.path().join("out"), &with_manifest()).unwrap();
    assert_eq!(second.index.as_bytes(), first.index.as_bytes());
    assert_eq!(names(&dir.path().join("out")), ["data.blob", "index.blob", "manifest.json", "other"]);
}

#[test]
fn a_failure_leaves_the_old_archive_as_it_was() {
    let (dir, out) = (tree(&[("a", b"x")]), tempfile::tempdir().unwrap());
    create_blob(dir.path(), out.path(), &with_manifest()).unwrap();
    let old = |name: &str| fs::read(out.path().join(name)).unwrap();
    let before: Vec<_> = names(out.path()).iter().map(|name| old(name)).collect();
    write(dir.path(), "b", b"new");

    let mut failing = with_manifest();
    let gone = dir.path().join("b");
    failing.create.progress = watch(move |event| {
        if matches!(event, Event::Scanning { .. }) {
            fs::remove_file(&gone).unwrap();
        }
    });
    let error = create_blob(dir.path(), out.path(), &failing).unwrap_err();
    assert!(error.is_changed(), "{error:?}");
    assert_eq!(names(out.path()).iter().map(|name| old(name)).collect::<Vec<_>>(), before);

    // The last of three names cannot be taken: the two that were taken are given back.
    write(dir.path(), "b", b"new");
    let mut blocked = with_manifest();
    blocked.manifest.as_mut().unwrap().name = "blocked".into();
    fs::create_dir(out.path().join("blocked")).unwrap();
    let error = create_blob(dir.path(), out.path(), &blocked).unwrap_err();
    assert!(matches!(&error, CreateError::Output { path, .. } if path.ends_with("blocked")), "{error:?}");
    assert_eq!(names(out.path()), ["blocked", "data.blob", "index.blob", "manifest.json"]);
    let kept: Vec<_> = ["data.blob", "index.blob", "manifest.json"].map(old).into();
    assert_eq!(kept, before);

    // Where there was nothing before, there is nothing afterwards.
    let fresh = tempfile::tempdir().unwrap();
    fs::create_dir(fresh.path().join("blocked")).unwrap();
    create_blob(dir.path(), fresh.path(), &blocked).unwrap_err();
    assert_eq!(names(fresh.path()), ["blocked"]);
}

#[test]
fn a_missing_source_makes_no_destination() {
    let out = tempfile::tempdir().unwrap();
    let (source, dest) = (out.path().join("none"), out.path().join("dest"));
    let error = create_blob(&source, &dest, &CreateBlobOptions::default()).unwrap_err();
    assert!(matches!(error, CreateError::NotFound { .. }), "{error:?}");
    assert!(!dest.exists());
}

#[test]
fn names_are_checked_first() {
    let (dir, out) = (tree(&[("a", b"x")]), tempfile::tempdir().unwrap());
    for (index, data) in
        [("", "d"), (".", "d"), ("..", "d"), ("i", "sub/d"), ("/i", "d"), ("same", "same"), ("i\0", "d")]
    {
        let mut options = CreateBlobOptions::default();
        (options.index_name, options.data_name) = (index.into(), data.into());
        let error = create_blob(dir.path(), &out.path().join("dest"), &options).unwrap_err();
        assert!(matches!(error, CreateError::OutputName { .. }), "{error:?}");
    }
    assert_eq!(names(out.path()), [""; 0]);
}
