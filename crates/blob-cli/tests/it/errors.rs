//! Every class of error: its exit code, its sentence, its name in JSON.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blob::core::{Digest, MemorySource};
use blob::registry::layout::LayoutRegistry;
use blob::registry::server::{Auth, ServerHandle};
use blob::registry::{
    Descriptor, ImageManifest, MemoryRegistry, PushBlob, PushManifest, Registry, Repository, Server, Tag, media_type,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Place, stderr, stdout};

/// Archives that the Go program wrote, or might have.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../blob-core/tests/fixtures/go-archives/cases");

/// Runs `line` as text and as JSON, and checks exit code, kind and what the sentence holds.
fn fails(place: &Place, line: &str, code: i32, kind: &str, wanted: &str) {
    let text = place.run(line).code(code);
    assert!(stderr(&text).starts_with("error: "), "{line}: {}", stderr(&text));
    assert!(stderr(&text).contains(wanted), "{line}: {wanted:?} is not in {}", stderr(&text));
    assert_eq!(stdout(&text), "", "{line}");
    let json = stderr(&place.run(&format!("{line} -o json")).code(code));
    let value: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{line}: {error}: {json}"));
    assert_eq!((&value["error"]["code"], &value["error"]["kind"]), (&code.into(), &kind.into()), "{line}");
}

#[test]
fn every_class_has_its_exit_code() {
    let place = Place::pushed();
    for (line, code, kind, wanted) in [
        ("ls alpine", 2, "usage", "expected host/repository:tag"),
        ("ls HOST/team/project", 2, "usage", "names no tag or digest"),
        ("ls https://HOST/team/project:v1", 2, "usage", "leave out the scheme"),
        ("push HOST/a/b:v1 project/README.md", 2, "usage", "source path is not a directory: project/README.md"),
        ("push -a x HOST/a/b:v1 project", 2, "usage", "invalid annotation \"x\": must be key=value"),
        ("push -c gzip HOST/a/b:v1 project", 2, "usage", "must be 'none' or 'zstd'"),
        ("pull HOST/team/project:v1 project/README.md", 2, "usage", "destination is not a directory"),
        ("cat HOST/team/project:v1 docs", 2, "usage", "cannot cat directory: docs"),
        ("cat HOST/team/project:v1 a/../b", 2, "usage", "invalid path"),
        ("cp HOST/team/project:v1 out", 2, "usage", "expected <ref>:<path> (path must start with /)"),
        ("cp -r=false HOST/team/project:v1:/docs out", 2, "usage", "cannot copy directory docs without -r flag"),
        ("cp HOST/team/project:v1:/docs project/README.md", 2, "usage", "cannot copy directory docs to file"),
        ("tag HOST/team/project:v1 HOST/other/project:v1", 2, "usage", "a tag points within its own repository"),
        ("--username me ls HOST/team/project:v1", 2, "usage", "set BLOB_PASSWORD"),
        ("--password-stdin ls HOST/team/project:v1", 2, "usage", "a password without a user"),
        ("ls --timeout 0 HOST/team/project:v1", 2, "usage", "--timeout"),
        ("push HOST/a/b:v1 nowhere", 3, "not_found", "source path does not exist: nowhere"),
        ("ls HOST/team/project:none", 3, "not_found", "archive not found: "),
        ("ls HOST/team/nothing:v1", 3, "not_found", "archive not found: "),
        ("ls oci:nowhere:v1", 3, "not_found", "nowhere"),
        ("cat HOST/team/project:v1 nothing", 3, "not_found", "file not found: nothing"),
        ("ls HOST/team/project:v1 nothing", 3, "not_found", "path not found in archive: nothing"),
        ("tree HOST/team/project:v1 nothing", 3, "not_found", "path not found in archive: nothing"),
        ("cp HOST/team/project:v1:/nothing out", 3, "not_found", "path not found in archive: nothing"),
        ("pull -p nothing HOST/team/project:v1 out", 3, "not_found", "path not found in archive: nothing"),
        ("tag HOST/team/project:none latest", 3, "not_found", "archive not found"),
        ("--retries 0 ls localhost:1/a/b:v1", 5, "network", "Connection refused"),
        ("--require-signed cat HOST/team/project:v1 README.md", 6, "verification", "verification is required"),
        ("push --max-files 2 HOST/a/b:v1 project", 1, "general", "raise the limit with --max-files"),
        ("ls --max-entries 2 HOST/team/project:v1", 1, "general", "raise the limit with --max-entries"),
        ("ls --max-index-size 1K HOST/team/project:v1", 1, "general", "raise the limit with --max-index-size"),
    ] {
        fails(&place, line, code, kind, wanted);
    }
    assert!(!place.path("out").exists());
}

#[test]
fn a_registry_that_is_silent_is_a_network_error() {
    let place = Place::offline();
    // Connections wait in the queue of a listener that never looks at them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    fails(&place, &format!("--timeout 1 --retries 0 ls {address}/a/b:v1"), 5, "network", "--timeout");
}

/// A server that asks for a name and a password.
pub(crate) fn guarded(runtime: &Runtime) -> ServerHandle {
    let auth = Auth::basic("guarded").user("ann", "correct horse").reader("bob", "battery staple");
    let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth);
    runtime.block_on(server.bind("127.0.0.1:0")).unwrap()
}

#[test]
fn credentials_come_from_the_environment() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    let push = format!("push {}/a/b:v1 project", server.local_addr());
    let run = |user: &str, password: &str| {
        let mut command = place.command(&push);
        place.assert(command.env("BLOB_USERNAME", user).env("BLOB_PASSWORD", password))
    };
    fails(&place, &push, 4, "authentication", &format!("`blob login {}`", server.local_addr()));
    for (user, password) in [("ann", "nonsense"), ("nobody", "correct horse"), ("bob", "battery staple")] {
        let refused = run(user, password).code(4);
        let text = stderr(&refused);
        assert!(text.contains("BLOB_USERNAME") && !text.contains(password), "{user}: {text}");
    }
    run("ann", "correct horse").success();
    let verbose = place.command(&push.replace("push", "-vvv push"));
    let shown = { verbose }.env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", "correct horse").output().unwrap();
    let log = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert!(log.contains("requests="), "{log}");
    // "ann:correct horse" in Base64 is what travels.
    assert!(!log.contains("correct horse") && !log.contains("YW5uOmNvcnJlY3QgaG9yc2U="), "{log}");
}

/// Anybody gets a token that lets them read: who may not write with it has no login, rather than a wrong one.
#[test]
fn who_has_no_login_is_not_told_that_it_is_wrong() {
    let runtime = Runtime::new().unwrap();
    let auth = Auth::bearer("open").user("ann", "correct horse").anonymous_pull();
    let server = Server::builder(Arc::new(MemoryRegistry::new())).auth(auth);
    let (server, place) = (runtime.block_on(server.bind("127.0.0.1:0")).unwrap(), Place::offline());
    let push = format!("push {}/a/b:v1 project", server.local_addr());
    let text = stderr(&place.run(&push).code(4));
    assert!(text.contains("are known: log in") && !text.contains("or are wrong"), "{text}");
    let known = place.assert(place.command(&push).env("BLOB_USERNAME", "ann").env("BLOB_PASSWORD", "nonsense")).code(4);
    assert!(!stderr(&known).contains("are known: log in"), "{}", stderr(&known));
    // A file that is malformed is a mistake of the configuration.
    fs::create_dir(place.path("home/.docker")).unwrap();
    fs::write(place.path("home/.docker/config.json"), "{").unwrap();
    let text = stderr(&place.run(&push).code(2));
    assert!(text.contains("is malformed"), "{text}");
}

#[test]
fn a_password_is_read_from_standard_input() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    fs::write(place.path("password"), "correct horse\n").unwrap();
    let line = format!("--username ann --password-stdin push {}/a/b:v1 project", server.local_addr());
    let mut command = place.command(&line);
    place.assert(command.stdin(fs::File::open(place.path("password")).unwrap())).success();
}

#[test]
fn credentials_come_from_the_docker_configuration() {
    let runtime = Runtime::new().unwrap();
    let (server, place) = (guarded(&runtime), Place::offline());
    fs::create_dir(place.path("home/.docker")).unwrap();
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"YW5uOmNvcnJlY3QgaG9yc2U="}}}}}}"#, server.local_addr());
    fs::write(place.path("home/.docker/config.json"), config).unwrap();
    place.run(&format!("push {}/a/b:v1 project", server.local_addr())).success();
}

/// The largest blob of a layout: the data.
pub(crate) fn data_blob(layout: &Path) -> PathBuf {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

pub(crate) fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    let permissions = fs::metadata(file).unwrap().permissions();
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, permissions).unwrap();
}

#[test]
fn damaged_content_is_a_hash_mismatch() {
    let place = Place::offline();
    fs::create_dir(place.path("data")).unwrap();
    fs::write(place.path("data/small"), "small".repeat(2000)).unwrap();
    fs::write(place.path("data/z-large"), vec![b'x'; 9 << 20]).unwrap();
    place.run("push -q -c none oci:layout:v1 data").success();
    let data = data_blob(&place.path("layout"));
    flip(&data, 100);
    flip(&data, 10_000 + (9 << 20) - 1);
    fails(&place, "cat oci:layout:v1 small", 7, "hash_mismatch", "small");
    // Large files are verified as they are written.
    let large = place.run("cat oci:layout:v1 z-large").code(7);
    assert!(stderr(&large).contains("z-large"), "{}", stderr(&large));
    fails(&place, "pull oci:layout:v1 out", 7, "hash_mismatch", "reading");
    assert!(!place.path("out").exists());
    let left = place.listing(".").into_iter().filter(|name| name.starts_with('.')).collect::<Vec<_>>();
    assert_eq!(left, Vec::<String>::new());
}

/// Puts an artifact into the layout `layout` of `place` as `v1`.
fn plant(place: &Place, artifact_type: &str, layers: Vec<(&str, Vec<u8>)>) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let layout = LayoutRegistry::open_or_create(place.path("layout")).await.unwrap();
        let repository = Repository::new("layout").unwrap();
        let empty = blob::registry::EMPTY_JSON;
        let config = PushBlob::new(Digest::sha256_of(empty), Arc::new(MemorySource::new(empty)));
        layout.push_blob(&repository, config).await.unwrap();
        let mut descriptors = Vec::new();
        for (media_type, bytes) in layers {
            descriptors.push(Descriptor::of(media_type, &bytes));
            let blob = PushBlob::new(Digest::sha256_of(&bytes), Arc::new(MemorySource::new(bytes)));
            layout.push_blob(&repository, blob).await.unwrap();
        }
        let manifest = ImageManifest::artifact(artifact_type, descriptors).to_bytes();
        let push = PushManifest::new(media_type::IMAGE_MANIFEST, manifest).with_tags([Tag::new("v1").unwrap()]);
        layout.push_manifest(&repository, push).await.unwrap();
    });
}

#[test]
fn what_is_no_archive_is_refused() {
    let place = Place::offline();
    plant(&place, "application/vnd.oci.image.config.v1+json", vec![("application/x-tar", b"tar".to_vec())]);
    fails(&place, "ls oci:layout:v1", 1, "general", "not a blob archive");
    fails(&place, "pull oci:layout:v1 out", 1, "general", "not a blob archive");
    assert!(!place.path("out").exists());
}

#[test]
fn an_archive_of_a_newer_version_is_refused() {
    for case in ["hash-algorithm-1-with-sha256-hashes", "compression-2--sizes-differ"] {
        let place = Place::offline();
        let read = |name: &str| fs::read(Path::new(FIXTURES).join(case).join(name)).unwrap();
        let layers = vec![(blob::INDEX_MEDIA_TYPE, read("index.blob")), (blob::DATA_MEDIA_TYPE, read("data.blob"))];
        plant(&place, blob::ARTIFACT_TYPE, layers);
        fails(&place, "ls oci:layout:v1", 1, "general", "newer version");
        fails(&place, "pull oci:layout:v1 out", 1, "general", "newer version");
        assert!(!place.path("out").exists());
    }
}

#[test]
fn archives_of_the_go_program_are_read() {
    let place = Place::offline();
    let read = |name: &str| fs::read(Path::new(FIXTURES).join("zstd-single-l3-zst").join(name)).unwrap();
    let layers = vec![(blob::INDEX_MEDIA_TYPE, read("index.blob")), (blob::DATA_MEDIA_TYPE, read("data.blob"))];
    plant(&place, blob::ARTIFACT_TYPE, layers);
    let names = stdout(&place.run("ls -0 oci:layout:v1").success());
    assert!(!names.is_empty());
    place.run("pull -q oci:layout:v1 out").success();
    assert_eq!(place.listing("out").len(), names.matches('\0').count());
}
