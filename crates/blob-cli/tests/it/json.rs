//! Every command as programs see it.

use serde_json::Value;
use snapbox::str;

use crate::support::{Place, stderr, stdout};

#[test]
fn documents() {
    let place = Place::served();
    let push = "push --reproducible -t latest -o json HOST/team/project:v1 project";
    place.run(push).success().stderr_eq(str![]).stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "status": "success",
  "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "digest_ref": "[HOST]/team/project:v1@sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "tags": [
    "latest"
  ],
  "unchanged": false,
  "uploaded_bytes": 1196,
  "index": {
    "digest": "sha256:7ce1dfe80c6000e165279866c9015abfd3bb19de4f96fc6ed3f4bafbe2079930",
    "size": 1072,
    "outcome": "uploaded"
  },
  "data": {
    "digest": "sha256:85fae02b37fa3e7a69e9b6b3fc3efa52e6dd7bba44ebc2e1d51be3e396237a0a",
    "size": 124,
    "outcome": "uploaded"
  },
  "file_count": 7,
  "symlink_count": 1,
  "empty_dir_count": 1,
  "total_size": 124,
  "stored_size": 124,
  "deduplicated_files": 0,
  "deduplicated_size": 0,
  "left_out": {
    "special_files": 0,
    "names": 0,
    "symlinks": 0,
    "empty_dirs": 0,
    "filtered": 0
  }
}

"#]]);
    place.run("inspect -o json --referrers HOST/team/project:v1").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "artifact_type": "application/vnd.meigma.blob.v1",
  "verified": false,
  "created": "2023-11-14T22:13:20Z",
  "files": 7,
  "symlinks": 1,
  "empty_dirs": 1,
  "size": {
    "compressed": 124,
    "uncompressed": 124,
    "ratio": 1.0
  },
  "compression": "none",
  "index": {
    "digest": "sha256:7ce1dfe80c6000e165279866c9015abfd3bb19de4f96fc6ed3f4bafbe2079930",
    "size": 1072
  },
  "data": {
    "digest": "sha256:85fae02b37fa3e7a69e9b6b3fc3efa52e6dd7bba44ebc2e1d51be3e396237a0a",
    "size": 124
  },
  "signatures": [],
  "attestations": [],
  "signers": [],
  "referrers": [],
  "annotations": {
    "org.opencontainers.image.created": "2023-11-14T22:13:20Z"
  }
}

"#]]);
    place.run("ls -o json HOST/team/project:v1 docs").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "path": "docs",
  "entries": [
    {
      "name": "api",
      "path": "docs/api",
      "is_dir": true,
      "type": "directory",
      "mode": "drwxr-xr-x",
      "size": 0
    },
    {
      "name": "guide.md",
      "path": "docs/guide.md",
      "is_dir": false,
      "type": "file",
      "mode": "-rw-r--r--",
      "size": 6,
      "digest": "sha256:90c390ec1de806bf945885cd0af51e90c3cd8cda0d0ff676051a56c20848c90f",
      "digest_short": "sha256:90c390ec1de8",
      "mod_time": "2023-11-14T22:13:20Z"
    }
  ]
}

"#]]);
    place.run("ls -lh -o json HOST/team/project:v1 settings").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "path": "settings",
  "entries": [
    {
      "name": "settings",
      "path": "settings",
      "is_dir": false,
      "type": "symlink",
      "mode": "lrwxrwxrwx",
      "size": 15,
      "size_human": "15",
      "mod_time": "2023-11-14T22:13:20Z",
      "target": "config/app.yaml"
    }
  ]
}

"#]]);
    place.run("tree --output json -L 1 HOST/team/project:v1 docs").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "path": "docs",
  "root": {
    "name": "docs",
    "path": "docs",
    "is_dir": true,
    "type": "directory",
    "children": [
      {
        "name": "api",
        "path": "docs/api",
        "is_dir": true,
        "type": "directory"
      },
      {
        "name": "guide.md",
        "path": "docs/guide.md",
        "is_dir": false,
        "type": "file",
        "size": 6
      }
    ]
  },
  "directory_count": 1,
  "file_count": 1,
  "symlink_count": 0
}

"#]]);
    place.run("tree -o json HOST/team/project:v1 empty").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "path": "empty",
  "root": {
    "name": "empty",
    "path": "empty",
    "is_dir": true,
    "type": "directory"
  },
  "directory_count": 0,
  "file_count": 0,
  "symlink_count": 0
}

"#]]);
    place.run("tag -o json HOST/team/project:v1 a b").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "src_ref": "[HOST]/team/project:v1",
  "dst_ref": "[HOST]/team/project:a",
  "dst_refs": [
    "[HOST]/team/project:a",
    "[HOST]/team/project:b"
  ],
  "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "status": "success"
}

"#]]);
    place.run("tags -o json HOST/team/project").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "repository": "[HOST]/team/project",
  "tags": [
    "a",
    "b",
    "latest",
    "v1"
  ]
}

"#]]);
    place.run("pull -o json HOST/team/project:v1 out").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "[HOST]/team/project:v1",
  "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "destination": "[ROOT]/out",
  "file_count": 7,
  "total_size": 124,
  "total_size_human": "124",
  "symlink_count": 1,
  "kept_count": 0,
  "cached_count": 0,
  "linked_count": 0,
  "verified": false,
  "traffic": {
    "requests": 1,
    "received_bytes": 124,
    "archive_bytes": 3304,
    "cache_hits": 1,
    "cached_bytes": 2108
  }
}

"#]]);
    place.run("cp -o json HOST/team/project:v1:/docs copy").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "sources": [
    {
      "ref": "[HOST]/team/project:v1",
      "path": "/docs"
    }
  ],
  "destination": "[ROOT]/copy",
  "file_count": 2,
  "total_size": 16,
  "size_human": "16",
  "symlink_count": 0,
  "kept_count": 0,
  "traffic": {
    "requests": 0,
    "received_bytes": 0,
    "archive_bytes": 3304,
    "cache_hits": 3,
    "cached_bytes": 2124
  }
}

"#]]);
}

#[test]
fn quiet_takes_no_data_away() {
    let place = Place::pushed();
    for line in [
        "inspect HOST/team/project:v1",
        "ls HOST/team/project:v1",
        "tree HOST/team/project:v1",
        "tags HOST/team/project",
        "cat HOST/team/project:v1 README.md",
        "version",
    ] {
        for format in ["text", "json"] {
            let loud = stdout(&place.run(&format!("-o {format} {line}")).success());
            assert!(!loud.is_empty(), "{line}");
            assert_eq!(stdout(&place.run(&format!("-q -o {format} {line}")).success()), loud, "{line}");
        }
    }
    assert!(stdout(&place.run("-q -o json push HOST/team/project:v1 project")).contains("\"digest\""));
}

#[test]
fn every_document_has_its_version() {
    let place = Place::pushed();
    for line in ["inspect HOST/team/project:v1", "ls HOST/team/project:v1", "tree HOST/team/project:v1", "version"] {
        let text = stdout(&place.run(&format!("{line} -o json")).success());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema_version"], 1, "{line}");
        assert!(text.ends_with("}\n") && text.starts_with("{\n  \""), "{line}");
    }
}

#[test]
fn errors_are_documents_too() {
    let place = Place::pushed();
    place.run("-o json cat HOST/team/project:v1 config/app.yml").code(3).stdout_eq(str![]).stderr_eq(str![[r#"
{"schema_version":1,"error":{"code":3,"kind":"not_found","message":"file not found: config/app.yml","causes":[],"hint":"did you mean config/app.yaml?"}}

"#]]);
    place.run("-o json ls HOST/team/project:none").code(3).stdout_eq(str![]).stderr_eq(str![[r#"
{"schema_version":1,"error":{"code":3,"kind":"not_found","message":"archive not found: [HOST]/team/project:none","reference":"[HOST]/team/project:none","causes":["MANIFEST_UNKNOWN: no such manifest or tag"],"hint":"there is only the tag v1"}}

"#]]);
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(place.path("out/run.sh"), "other").unwrap();
    place.run("-o json pull HOST/team/project:v1 out").code(1).stderr_eq(str![[r#"
{"schema_version":1,"error":{"code":1,"kind":"general","message":"1 file exists already and differs from the archive; nothing was written","causes":[],"paths":[{"path":"[ROOT]/out/run.sh"}],"hint":"pass --overwrite to replace them"}}

"#]]);
    for line in ["-o json push", "push --output=json x", "-o json frob", "-o json ls not-a-reference"] {
        let failed = place.run(line).code(2);
        let value: Value = serde_json::from_str(&stderr(&failed)).unwrap();
        assert_eq!((&value["error"]["code"], &value["error"]["kind"]), (&2.into(), &"usage".into()), "{line}");
    }
}
