use blob_core::Digest;
use blob_registry::{ErrorCode, LayoutRegistry, Registry, RegistryError, UploadId};
use bytes::Bytes;

use super::{blob_path, files, layout, repository};

fn code<T>(result: Result<T, RegistryError>) -> ErrorCode {
    result.err().map(|error| error.error_code()).expect("an error")
}

#[tokio::test]
async fn sessions_are_limited_and_old_ones_give_way() {
    let (_directory, path, layout) = layout().await;
    let uploads = path.join(".blob/uploads");
    for number in 0..10_000 {
        std::fs::write(uploads.join(format!("{number:032x}")), "").unwrap();
    }
    let refused = layout.start_upload(&repository()).await.map(drop).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::TooManyRequests, "{refused}");
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(25);
    let one = std::fs::File::options().write(true).open(uploads.join(format!("{:032x}", 7))).unwrap();
    one.set_modified(old).unwrap();
    layout.start_upload(&repository()).await.map(drop).unwrap();
}

#[tokio::test]
async fn ids_never_become_other_paths() {
    let (_directory, path, layout) = layout().await;
    let upload = layout.start_upload(&repository()).await.unwrap();
    let own = upload.id().as_str().to_owned();
    for id in [
        "",
        ".",
        "..",
        "../../index.json",
        "../lock",
        "/etc/passwd",
        &own.to_uppercase(),
        &own[1..],
        &(own.clone() + "0"),
        &format!("./{own}"),
        &format!("{own}\0"),
        &"0".repeat(32),
    ] {
        let resumed = layout.resume_upload(&repository(), &UploadId::new(id)).await;
        assert_eq!(code(resumed), ErrorCode::BlobUploadUnknown, "{id:?}");
    }
    layout.resume_upload(&repository(), &UploadId::new(own)).await.unwrap().cancel().await.unwrap();
    assert_eq!(files(&path), [".blob/lock", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn of_two_writers_one_is_told() {
    let (_directory, _path, layout) = layout().await;
    let mut first = layout.start_upload(&repository()).await.unwrap();
    let mut second = layout.resume_upload(&repository(), &first.id()).await.unwrap();
    first.append(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(code(second.append(Bytes::from_static(b"HELLO")).await), ErrorCode::BlobUploadInvalid);
    assert_eq!(code(second.commit(&Digest::sha256_of(b"hello")).await), ErrorCode::BlobUploadInvalid);
    let mut third = layout.resume_upload(&repository(), &first.id()).await.unwrap();
    third.append(Bytes::from_static(b" world")).await.unwrap();
    let digest = Digest::sha256_of(b"hello world");
    third.commit(&digest).await.unwrap();
    assert_eq!(code(first.append(Bytes::from_static(b"!")).await), ErrorCode::BlobUploadUnknown);
    assert_eq!(layout.stat_blob(&repository(), &digest).await.unwrap(), 11);
}

#[tokio::test]
async fn sessions_survive_the_program() {
    let (_directory, path, layout) = layout().await;
    let mut upload = layout.start_upload(&repository()).await.unwrap();
    upload.append(Bytes::from_static(b"hello")).await.unwrap();
    let id = upload.id();
    drop((upload, layout));
    let layout = LayoutRegistry::open_or_create(&path).await.unwrap();
    let mut upload = layout.resume_upload(&repository(), &id).await.unwrap();
    assert_eq!(upload.offset(), 5);
    upload.append(Bytes::from_static(b" world")).await.unwrap();
    upload.commit(&Digest::sha256_of(b"hello world")).await.unwrap();
    assert_eq!(files(&path.join(".blob")), ["lock"]);
}

/// What a server does: a handle for each request. The bytes on disk are changed behind its back, so that only who reads
/// them once more would see it.
#[tokio::test]
async fn content_is_hashed_as_it_comes_and_not_read_again() {
    let (_directory, path, layout) = layout().await;
    for pieces in [&["hello world"][..], &["hello", " ", "world"]] {
        let id = layout.start_upload(&repository()).await.unwrap().id();
        for piece in pieces {
            let mut upload = layout.resume_upload(&repository(), &id).await.unwrap();
            upload.append(Bytes::from(*piece)).await.unwrap();
            if pieces.len() == 1 {
                std::fs::write(path.join(".blob/uploads").join(id.as_str()), "HELLO WORLD").unwrap();
                upload.commit(&Digest::sha256_of(b"hello world")).await.unwrap();
            }
        }
        if pieces.len() > 1 {
            std::fs::write(path.join(".blob/uploads").join(id.as_str()), "HELLO WORLD").unwrap();
            let upload = layout.resume_upload(&repository(), &id).await.unwrap();
            upload.commit(&Digest::sha256_of(b"hello world")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn wrong_content_leaves_nothing() {
    let (_directory, path, layout) = layout().await;
    let mut upload = layout.start_upload(&repository()).await.unwrap();
    upload.append(Bytes::from_static(b"hello")).await.unwrap();
    assert!(upload.commit(&Digest::sha256_of(b"other")).await.unwrap_err().is_integrity());
    assert_eq!(files(&path), [".blob/lock", "index.json", "oci-layout"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_writer_never_touches_the_blob() {
    let (_directory, path, layout) = layout().await;
    for round in 0..50 {
        let content = format!("content {round}");
        let digest = Digest::sha256_of(content.as_bytes());
        let mut first = layout.start_upload(&repository()).await.unwrap();
        first.append(Bytes::from(content.clone())).await.unwrap();
        let mut second = layout.resume_upload(&repository(), &first.id()).await.unwrap();
        let commit = tokio::spawn(async move { first.commit(&digest).await });
        let append = tokio::spawn(async move { second.append(Bytes::from_static(b"!")).await });
        let (committed, appended) = (commit.await.unwrap(), append.await.unwrap());
        assert!(committed.is_ok() != appended.is_ok(), "one of them was first: {committed:?} {appended:?}");
        if committed.is_ok() {
            assert_eq!(std::fs::read(blob_path(&path, &digest)).unwrap(), content.as_bytes());
        }
    }
}

#[tokio::test]
async fn abandoned_sessions_go_while_a_server_runs() {
    let (_directory, path, layout) = layout().await;
    let abandoned = path.join(".blob/uploads").join("0".repeat(32));
    let file = std::fs::File::create(&abandoned).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_hours(25)).unwrap();
    // One in 64 looks: the odds that none of 2,000 does are one in 10^13.
    for _ in 0..2000 {
        layout.start_upload(&repository()).await.unwrap().cancel().await.unwrap();
        if !abandoned.exists() {
            return;
        }
    }
    panic!("the abandoned session is still there");
}
