//! `copy`, `rm`, `tags`, `referrers`: archives that go from place to place, and away.

use std::fs;

use snapbox::str;

use crate::support::{Place, stderr, stdout};

fn digest(place: &Place, reference: &str) -> String {
    let listed = stdout(&place.run(&format!("tags --digests -o plain {}", reference.rsplit_once(':').unwrap().0)));
    let tag = reference.rsplit_once(':').unwrap().1;
    let line = listed.lines().find(|line| line.starts_with(&format!("{tag}\t"))).map(str::to_owned);
    line.map(|line| line.split('\t').nth(1).unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn from_registry_to_layout_and_back() {
    let place = Place::pushed();
    place.run("copy HOST/team/project:v1 oci:backup").success().stderr_eq("").stdout_eq(str![[r#"
Copied [HOST]/team/project:v1 to oci:backup
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: v1
  Sent: 3.2K (1 manifest, 3 blobs)

"#]]);
    place.run("copy oci:backup:v1 HOST/other/name:new -t latest").success().stdout_eq(str![[r#"
Copied oci:backup:v1 to [HOST]/other/name:new
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: new
  Tagged: latest
  Sent: 3.2K (1 manifest, 3 blobs)

"#]]);
    let digests = [
        digest(&place, "HOST/team/project:v1"),
        digest(&place, "HOST/other/name:latest"),
        digest(&place, "oci:backup:v1"),
    ];
    assert!(!digests[0].is_empty() && digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    place.run("cat HOST/other/name:new README.md").success().stdout_eq("# Sample\n");
    place.run("copy HOST/team/project:v1 oci:backup").success().stdout_eq(str![[r#"
Copied [HOST]/team/project:v1 to oci:backup
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: v1
  Sent: 0 (0 manifests, 0 blobs, 1 there already)

"#]]);
}

#[test]
fn within_a_registry_nothing_is_sent_twice() {
    let place = Place::pushed();
    place.run("copy HOST/team/project:v1 HOST/team/mirror:v1").success().stdout_eq(str![[r#"
Copied [HOST]/team/project:v1 to [HOST]/team/mirror:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: v1
  Sent: 2.1K (1 manifest, 0 blobs, 3 mounted)

"#]]);
    place.run("copy -o json HOST/team/project:v1 HOST/team/mirror:v1").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "source": "[HOST]/team/project:v1",
  "destination": "[HOST]/team/mirror:v1",
  "dry_run": false,
  "copies": [
    {
      "source": "[HOST]/team/project:v1",
      "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
      "tags": [
        "v1"
      ],
      "manifests_copied": 0,
      "manifests_existing": 1,
      "blobs_copied": 0,
      "blobs_existing": 0,
      "blobs_mounted": 0,
      "bytes": 0
    }
  ],
  "manifests_copied": 0,
  "blobs_copied": 0,
  "bytes": 0
}

"#]]);
    let quiet = stdout(&place.run("copy -q HOST/team/project:v1 HOST/team/mirror:v1"));
    assert_eq!(quiet.trim(), digest(&place, "HOST/team/project:v1"));
}

#[test]
fn all_tags_and_none_that_exist() {
    let place = Place::pushed();
    place.run("push -q --reproducible --no-symlinks HOST/team/project:v2 project").success();
    place.run("push -q --reproducible --no-empty-dirs HOST/team/mirror:v1 project").success();
    let own = digest(&place, "HOST/team/mirror:v1");
    place.run("copy --all-tags --no-clobber HOST/team/project HOST/team/mirror").success().stdout_eq(str![[r#"
Left alone [HOST]/team/project:v1: v1 exists at [HOST]/team/mirror
Copied [HOST]/team/project:v2 to [HOST]/team/mirror
  Digest: sha256:7f075dfc7255457c210507ead43f24676f8cb151dc1290d47eb8f3180663bdb1
  Tagged: v2
  Sent: 2.0K (1 manifest, 0 blobs, 1 mounted, 2 there already)

"#]]);
    assert_eq!(digest(&place, "HOST/team/mirror:v1"), own);
    assert_eq!(digest(&place, "HOST/team/mirror:v2"), digest(&place, "HOST/team/project:v2"));
    place.run("copy --all-tags HOST/team/project:v1 HOST/team/mirror").code(2).stderr_eq(str![[r#"
error: --all-tags copies repositories, and v1 is named

"#]]);
}

#[test]
fn many_tags_are_copied_at_a_time_and_a_damaged_one_stops_no_other() {
    let place = Place::served();
    for number in 1..=6 {
        fs::write(place.path("project/README.md"), format!("# {number}\n")).unwrap();
        place.run(&format!("push -q --reproducible oci:layout:v{number} project")).success();
    }
    place.run("copy -q --all-tags --jobs 3 oci:layout HOST/whole/copy").success();
    for number in 1..=6 {
        assert_eq!(
            digest(&place, &format!("HOST/whole/copy:v{number}")),
            digest(&place, &format!("oci:layout:v{number}"))
        );
    }
    let inspected = stdout(&place.run("inspect -o plain oci:layout:v4"));
    let data = inspected.lines().find_map(|line| line.strip_prefix("data.digest\tsha256:")).unwrap();
    fs::remove_file(place.path("layout/blobs/sha256").join(data)).unwrap();
    let partial = place.run("copy --all-tags --jobs 2 oci:layout HOST/part/copy").code(8);
    let text = stderr(&partial);
    assert!(text.starts_with("error: copied 5 of 6 tags: ") && text.contains("v4"), "{text}");
    assert_eq!(stdout(&place.run("tags HOST/part/copy")), "v1\nv2\nv3\nv5\nv6\n");
    let json = stderr(&place.run("copy --all-tags -o json oci:layout HOST/json/copy").code(8));
    assert!(json.contains(r#""code":8,"kind":"partial""#), "{json}");
    for wrong in ["0", "257", "many"] {
        let text = stderr(&place.run(&format!("copy --jobs {wrong} oci:layout:v1 HOST/a/b")).code(2));
        assert!(text.contains("expected a number from 1 to 256"), "{text}");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let place = Place::pushed();
    place.run("copy --dry-run HOST/team/project:v1 oci:backup").success().stdout_eq(str![[r#"
Would copy [HOST]/team/project:v1 to oci:backup
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Would tag: v1
  Would send: 3.2K (1 manifest, 3 blobs)

"#]]);
    assert!(!place.path("backup").exists());
    place.run("copy --dry-run HOST/team/project:v1 HOST/a/b:c").success();
    place.run("cat HOST/a/b:c README.md").code(3);
    place.run("rm --dry-run HOST/team/project:v1").success().stdout_eq(str![[r#"
Would delete tag [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9

"#]]);
    place.run("rm --dry-run --manifest -o json HOST/team/project:v1").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "dry_run": true,
  "deleted": [
    {
      "ref": "[HOST]/team/project:v1",
      "kind": "manifest",
      "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
      "tags": [
        "v1"
      ],
      "referrers_deleted": false
    }
  ]
}

"#]]);
    place.run("tags HOST/team/project").success().stdout_eq("v1\n");
}

#[test]
fn what_cannot_be_copied_says_why() {
    let place = Place::pushed();
    for (line, code) in [
        ("copy HOST/team/project:none HOST/a/b:c", 3),
        ("copy HOST/team/project HOST/a/b:c", 2),
        (
            "copy HOST/team/project:v1 HOST/a/b@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            2,
        ),
        ("copy HOST/team/project:v1", 2),
        ("copy HOST/team/project:v1 nonsense", 2),
        ("copy localhost:1/a:b HOST/a/b:c --retries 0", 5),
    ] {
        let failed = place.run(line).code(code).stdout_eq("");
        assert!(stderr(&failed).starts_with("error: "), "{line}: {}", stderr(&failed));
    }
    place.run("copy HOST/team/project:none HOST/a/b:c").code(3).stderr_eq(str![[r#"
error: archive not found: [HOST]/team/project:none: MANIFEST_UNKNOWN: no such manifest or tag
hint: there is only the tag v1

"#]]);
}

#[test]
fn tags_go_and_archives_go() {
    let place = Place::pushed();
    place.run("tag -q HOST/team/project:v1 latest").success();
    place.run("rm HOST/team/project:latest").code(2).stdout_eq("").stderr_eq(str![[r#"
error: deleting needs a confirmation, and nobody can be asked here
hint: pass --yes, or --dry-run to see what would be deleted

"#]]);
    place.run("rm --yes HOST/team/project:latest").success().stderr_eq("").stdout_eq(str![[r#"
Deleted tag [HOST]/team/project:latest
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9

"#]]);
    place.run("tags HOST/team/project").success().stdout_eq("v1\n");
    place.run("tag -q HOST/team/project:v1 other").success();
    place.run("rm --yes --manifest HOST/team/project:v1").success().stdout_eq(str![[r#"
Deleted manifest [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tag: other
  Tag: v1

"#]]);
    place.run("tags -o json HOST/team/project").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "repository": "[HOST]/team/project",
  "tags": []
}

"#]]);
    place.run("ls HOST/team/project:v1").code(3);
    place.run("rm --yes HOST/team/project:v1").code(3).stdout_eq("").stderr_eq(str![[r#"
error: archive not found: [HOST]/team/project:v1: MANIFEST_UNKNOWN
hint: `blob tags [HOST]/team/project` lists the tags

"#]]);
}

#[test]
fn tags_can_be_deleted_from_layouts() {
    let place = Place::laid_out();
    place.run("tag -q oci:layout:v1 v2").success();
    place.run("rm -y oci:layout:v2").success();
    place.run("tags oci:layout").success().stdout_eq("v1\n");
}

#[test]
fn tags_are_filtered_and_resolved() {
    let place = Place::pushed();
    place.run("tag -q HOST/team/project:v1 v1.1 v1.2 latest").success();
    place.run("tags --filter v1.* HOST/team/project").success().stdout_eq("v1.1\nv1.2\n");
    place.run("tags --digests --filter l* HOST/team/project").success().stdout_eq(str![[r#"
latest  sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9

"#]]);
    place.run("tags --digests --filter l* -o json HOST/team/project").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "repository": "[HOST]/team/project",
  "tags": [
    "latest"
  ],
  "digests": [
    {
      "tag": "latest",
      "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
      "media_type": "application/vnd.oci.image.manifest.v1+json",
      "size": 2108
    }
  ]
}

"#]]);
    place.run("tags --filter [ HOST/team/project").code(2).stdout_eq("");
}

#[test]
fn referrers_are_copied_shown_and_deleted() {
    let place = Place::laid_out();
    // Whatever has a subject refers to it: a second archive that was given one.
    let index: serde_json::Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let subject = &index["manifests"][0];
    let blob = |digest: &str| place.path(format!("layout/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()));
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(blob(subject["digest"].as_str().unwrap())).unwrap()).unwrap();
    manifest["subject"] = serde_json::json!({
        "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"],
    });
    manifest["artifactType"] = "application/vnd.example.note".into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let note = place.sha256(&bytes);
    fs::write(blob(&note), &bytes).unwrap();
    let mut index = index.clone();
    let described = serde_json::json!({
        "mediaType": manifest["mediaType"], "digest": note, "size": bytes.len(),
        "artifactType": "application/vnd.example.note",
    });
    index["manifests"].as_array_mut().unwrap().push(described);
    fs::write(place.path("layout/index.json"), serde_json::to_vec(&index).unwrap()).unwrap();

    place.run("referrers oci:layout:v1").success().stderr_eq("").stdout_eq(str![[r#"
sha256:e44130585b4d71fbcebe74e48fa74c33bcd43c217ad9ab3a4a1a247414beed42  2270  application/vnd.example.note

"#]]);
    place.run("referrers --tree oci:layout:v1").success().stdout_eq(str![[r#"
sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
└── sha256:e44130585b4d71fbcebe74e48fa74c33bcd43c217ad9ab3a4a1a247414beed42  application/vnd.example.note

"#]]);
    place.run("referrers -o json --type application/none oci:layout:v1").success().stdout_eq(str![[r#"
{
  "schema_version": 1,
  "ref": "oci:layout:v1",
  "digest": "sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9",
  "referrers": []
}

"#]]);
    place.run("referrers oci:layout:none").code(3).stdout_eq("");

    place.run("copy -q --no-referrers oci:layout:v1 oci:bare").success();
    place.run("referrers oci:bare:v1").success().stdout_eq("");
    place.run("copy oci:layout:v1 oci:whole").success().stdout_eq(str![[r#"
Copied oci:layout:v1 to oci:whole
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tagged: v1
  Sent: 5.4K (2 manifests, 3 blobs)

"#]]);
    place.run("referrers oci:whole:v1 -o plain").success().stdout_eq(str![[r#"
sha256:e44130585b4d71fbcebe74e48fa74c33bcd43c217ad9ab3a4a1a247414beed42	2270	application/vnd.example.note

"#]]);
    place.run("rm --yes --manifest --dry-run oci:whole:v1").success().stdout_eq(str![[r#"
Would delete manifest oci:whole:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tag: v1
  Referrer left: sha256:e44130585b4d71fbcebe74e48fa74c33bcd43c217ad9ab3a4a1a247414beed42  application/vnd.example.note

"#]]);
    place.run("rm --yes --manifest --referrers oci:whole:v1").success().stdout_eq(str![[r#"
Deleted manifest oci:whole:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Tag: v1
  Referrer: sha256:e44130585b4d71fbcebe74e48fa74c33bcd43c217ad9ab3a4a1a247414beed42  application/vnd.example.note

"#]]);
    place.run("tags oci:whole").code(3).stdout_eq("");
}
