//! Every command as people see it.

use std::fs;

use snapbox::str;

use crate::support::{Place, stdout};

#[test]
fn push() {
    let place = Place::served();
    let push = "push --reproducible HOST/team/project:v1 project";
    place.run(push).success().stderr_eq(str![]).stdout_eq(str![[r#"
Pushed [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Files: 7 and 1 symbolic link, 1 empty directory
  Size: 124 (124 uncompressed)
  Uploaded: 1.2K

"#]]);
    place.run(push).success().stderr_eq(str![]).stdout_eq(str![[r#"
Pushed [HOST]/team/project:v1 (unchanged)
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Files: 7 and 1 symbolic link, 1 empty directory
  Size: 124 (124 uncompressed)
  Uploaded: 0

"#]]);
    place.run("push -q --reproducible HOST/team/project:v1 project").success().stdout_eq(str![[r#"
[HOST]/team/project:v1@sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9

"#]]);
    place
        .run("push --reproducible -t latest -t stable --no-symlinks --no-empty-dirs HOST/team/project:v2 project")
        .success()
        .stdout_eq(str![[r#"
Pushed [HOST]/team/project:v2
  Tagged: latest
  Tagged: stable
  Digest: sha256:a24d320016f6fd19d9b9ddca350b9656508ceb8d18b9a43e5f0d00f31eba84f3
  Files: 7
  Size: 124 (124 uncompressed)
  Left out: 1 symbolic link
  Left out: 1 empty directory
  Uploaded: 928

"#]]);
    place.run("tags HOST/team/project").success().stdout_eq(str![[r#"
latest
stable
v1
v2

"#]]);
    place.run("push --digest-file digest -q HOST/team/project:v3 project").success();
    let pinned = stdout(&place.run("push -q HOST/team/project:v3 project"));
    let digest = fs::read_to_string(place.path("digest")).unwrap();
    assert_eq!(pinned.trim().split_once('@').unwrap().1, digest.trim());
}

#[test]
fn what_is_left_out_is_said() {
    let place = Place::served();
    let made = std::process::Command::new("mkfifo").arg(place.path("project/pipe")).status().unwrap();
    assert!(made.success());
    place.run("push --reproducible HOST/team/project:v1 project").success().stderr_eq(str![]).stdout_eq(str![[r#"
Pushed [HOST]/team/project:v1
  Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
  Files: 7 and 1 symbolic link, 1 empty directory
  Size: 124 (124 uncompressed)
  Left out: 1 special file: "pipe"
  Uploaded: 1.2K

"#]]);
    place.run("push --strict HOST/team/project:v2 project").code(1).stdout_eq(str![]).stderr_eq(str![[r#"
error: creating an archive of project: 1 special file or name would be left out: "pipe"
hint: without --strict they are left out and listed

"#]]);
}

#[test]
fn filters() {
    let place = Place::served();
    place.run("push -q --exclude docs/ --include *.md --include *.sh HOST/a/b:v1 project").success();
    place.run("ls -R HOST/a/b:v1").success().stdout_eq(str![[r#"
README.md
run.sh

"#]]);
}

#[test]
fn pull() {
    let place = Place::pushed();
    place.run("pull HOST/team/project:v1 out").success().stderr_eq(str![]).stdout_eq(str![[r#"
Pulled [HOST]/team/project:v1
  Destination: [ROOT]/out
  Files: 7
  Size: 124
  Links: 1
  Fetched: 124 of 3.2K in 1 request, 2.1K from the cache

"#]]);
    assert_eq!(place.listing("out"), place.listing("project"));
    fs::remove_file(place.path("out/README.md")).unwrap();
    place.run("pull HOST/team/project:v1 out").success().stdout_eq(str![[r#"
Pulled [HOST]/team/project:v1
  Destination: [ROOT]/out
  Files: 1
  Size: 9
  Kept: 8 equal already
  Fetched: nothing, 2.1K from the cache

"#]]);
    fs::write(place.path("out/README.md"), "other").unwrap();
    fs::write(place.path("out/run.sh"), "other").unwrap();
    fs::remove_file(place.path("out/docs/guide.md")).unwrap();
    place.run("pull HOST/team/project:v1 out").code(1).stdout_eq(str![]).stderr_eq(str![[r#"
error: 2 files exist already and differ from the archive; nothing was written
  [ROOT]/out/README.md
  [ROOT]/out/run.sh
hint: pass --overwrite to replace them

"#]]);
    assert!(!place.path("out/docs/guide.md").exists(), "something was written");
    place.run("pull --overwrite HOST/team/project:v1 out").success().stdout_eq(str![[r#"
Pulled [HOST]/team/project:v1
  Destination: [ROOT]/out
  Files: 7
  Size: 124
  Links: 1
  Kept: 1 equal already
  Fetched: nothing, 2.2K from the cache

"#]]);
    assert_eq!(fs::read_to_string(place.path("out/README.md")).unwrap(), "# Sample\n");
    fs::write(place.path("out/mine"), "gone soon").unwrap();
    place.run("pull --clean -q HOST/team/project:v1 out").success().stdout_eq(str![]).stderr_eq(str![]);
    assert_eq!(place.listing("out"), place.listing("project"));
}

#[test]
fn pull_of_a_part() {
    let place = Place::pushed();
    place.run("pull -p /docs/ HOST/team/project:v1 out").success().stdout_eq(str![[r#"
Pulled [HOST]/team/project:v1
  Destination: [ROOT]/out
  Files: 2
  Size: 16
  Fetched: 124 of 3.2K in 1 request, 2.1K from the cache

"#]]);
    assert_eq!(place.listing("out"), ["docs/", "docs/api/", "docs/api/reference.md", "docs/guide.md"]);
    place.run("pull -p dosc HOST/team/project:v1 out").code(3).stderr_eq(str![[r#"
error: path not found in archive: dosc
hint: did you mean docs?

"#]]);
}

#[test]
fn cat() {
    let place = Place::pushed();
    place.run("cat HOST/team/project:v1 config/app.yaml //README.md").success().stderr_eq(str![]).stdout_eq(str![[
        r#"
name: sample-app
version: 1.0.0
environment: production
# Sample

"#
    ]]);
    place.run("-q cat HOST/team/project:v1 README.md").success().stdout_eq("# Sample\n");
    place.run("--no-cache cat --stats HOST/team/project:v1 README.md").success().stderr_eq(str![[r#"
2 requests, 2117 of 124 bytes

"#]]);
}

#[test]
fn ls() {
    let place = Place::pushed();
    place.run("ls HOST/team/project:v1").success().stderr_eq(str![]).stdout_eq(str![[r#"
README.md
config/
docs/
empty/
run.sh
settings
src/

"#]]);
    let listed = |line: &str| stdout(&place.run(line).success());
    assert_eq!(listed("ls -1 HOST/team/project:v1"), listed("ls HOST/team/project:v1"));
    place.run("ls -lh HOST/team/project:v1").success().stdout_eq(str![[r#"
-rw-r--r--   9  README.md
drwxr-xr-x   0  config/
drwxr-xr-x   0  docs/
drwxr-xr-x   0  empty/
-rwxr-xr-x  21  run.sh
lrwxrwxrwx  15  settings -> config/app.yaml
drwxr-xr-x   0  src/

"#]]);
    place.run("ls -l --digest HOST/team/project:v1 /config/").success().stdout_eq(str![[r#"
-rw-r--r--  56  sha256:7bff0ada275b  app.yaml
-rw-------  22  sha256:d3c98978362b  database.json

"#]]);
    place.run("ls --digest HOST/team/project:v1 config").success().stdout_eq(str![[r#"
sha256:7bff0ada275b  app.yaml
sha256:d3c98978362b  database.json

"#]]);
    place.run("ls HOST/team/project:v1 config/app.yaml").success().stdout_eq(str![[r#"
config/app.yaml

"#]]);
    place.run("ls HOST/team/project:v1 empty").success().stdout_eq(str![]);
    place.run("ls -R --sort size HOST/team/project:v1").success().stdout_eq(str![[r#"
config/app.yaml
config/database.json
run.sh
settings
docs/api/reference.md
README.md
docs/guide.md
empty/
src/main.rs

"#]]);
    place.run("ls -r HOST/team/project:v1").success().stdout_eq(str![[r#"
src/
settings
run.sh
empty/
docs/
config/
README.md

"#]]);
    place.run("ls -o table HOST/team/project:v1").success().stdout_eq(str![[r#"
MODE        SIZE  MODIFIED          NAME
-rw-r--r--     9  2023-11-14 22:13  README.md
drwxr-xr-x     0                    config/
drwxr-xr-x     0                    docs/
drwxr-xr-x     0  2023-11-14 22:13  empty/
-rwxr-xr-x    21  2023-11-14 22:13  run.sh
lrwxrwxrwx    15  2023-11-14 22:13  settings -> config/app.yaml
drwxr-xr-x     0                    src/

"#]]);
    place.run("ls -o plain -l HOST/team/project:v1 config").success().stdout_eq(str![[r#"
-rw-r--r--	56	2023-11-14T22:13:20Z	app.yaml	
-rw-------	22	2023-11-14T22:13:20Z	database.json	

"#]]);
    let names = place.run("ls -0 HOST/team/project:v1 config").success();
    assert_eq!(stdout(&names), "app.yaml\0database.json\0");
}

#[test]
fn tree() {
    let place = Place::pushed();
    place.run("tree HOST/team/project:v1").success().stderr_eq(str![]).stdout_eq(str![[r#"
./
├── README.md
├── config/
│   ├── app.yaml
│   └── database.json
├── docs/
│   ├── api/
│   │   └── reference.md
│   └── guide.md
├── empty/
├── run.sh
├── settings -> config/app.yaml
└── src/
    └── main.rs

5 directories, 7 files, 1 link

"#]]);
    place.run("tree -L 1 --dirsfirst HOST/team/project:v1").success().stdout_eq(str![[r#"
./
├── config/
├── docs/
├── empty/
├── src/
├── README.md
├── run.sh
└── settings -> config/app.yaml

4 directories, 2 files, 1 link

"#]]);
    place.run("tree --dirs-only --depth 2 HOST/team/project:v1").success().stdout_eq(str![[r#"
./
├── config/
├── docs/
│   └── api/
├── empty/
└── src/

5 directories, 0 files

"#]]);
    place.run("tree HOST/team/project:v1 docs").success().stdout_eq(str![[r#"
docs/
├── api/
│   └── reference.md
└── guide.md

1 directory, 2 files

"#]]);
    place.run("tree HOST/team/project:v1 empty").success().stdout_eq(str![[r#"
empty/

0 directories, 0 files

"#]]);
    place.run("tree -o plain HOST/team/project:v1 docs").success().stdout_eq(str![[r#"
docs/api/
docs/api/reference.md
docs/guide.md

"#]]);
}

#[test]
fn cp() {
    let place = Place::pushed();
    place.run("cp HOST/team/project:v1:/config/app.yaml ./copied.yaml").success().stderr_eq(str![]).stdout_eq(str![[
        r#"
Copied 1 file(s) (56)
  [HOST]/team/project:v1:/config/app.yaml
  → [ROOT]/copied.yaml
  Fetched: 124 of 3.2K in 1 request, 2.1K from the cache

"#
    ]]);
    place.run("cp HOST/team/project:v1:/config/app.yaml out/").success();
    assert_eq!(place.listing("out"), ["config/", "config/app.yaml"]);
    place.run("cp HOST/team/project:v1:/docs/ HOST/team/project:v1:/README.md out").success().stdout_eq(str![[r#"
Copied 3 file(s) (25)
  [HOST]/team/project:v1:/docs
  [HOST]/team/project:v1:/README.md
  → [ROOT]/out
  Fetched: nothing, 2.2K from the cache

"#]]);
    place.run("cp --flat HOST/team/project:v1:/docs flat").success();
    assert_eq!(place.listing("flat"), ["guide.md", "reference.md"]);
    place.run("cp HOST/team/project:v1:/ all").success();
    assert_eq!(place.listing("all"), place.listing("project"));
    fs::write(place.path("copied.yaml"), "other").unwrap();
    place.run("cp HOST/team/project:v1:/config/app.yaml copied.yaml").code(1).stdout_eq(str![]).stderr_eq(str![[r#"
error: 1 file exists already and differs from the archive; nothing was written
  [ROOT]/copied.yaml
hint: pass --overwrite to replace them

"#]]);
    place.run("cp -f HOST/team/project:v1:/config/app.yaml copied.yaml").success();
    assert!(fs::read_to_string(place.path("copied.yaml")).unwrap().starts_with("name:"));
}

#[test]
fn cp_from_two_archives_writes_nothing_when_one_differs() {
    let place = Place::pushed();
    place.run("push -q --reproducible oci:layout:v1 project").success();
    fs::create_dir_all(place.path("out/docs")).unwrap();
    fs::write(place.path("out/docs/guide.md"), "other").unwrap();
    place.run("cp HOST/team/project:v1:/run.sh oci:layout:v1:/docs out").code(1).stderr_eq(str![[r#"
error: 1 file exists already and differs from the archive; nothing was written
  out/docs/guide.md
hint: pass --overwrite to replace them

"#]]);
    assert_eq!(place.listing("out"), ["docs/", "docs/guide.md"]);
    place.run("cp -f HOST/team/project:v1:/run.sh oci:layout:v1:/docs out").success().stdout_eq(str![[r#"
Copied 3 file(s) (37)
  [HOST]/team/project:v1:/run.sh
  oci:layout:v1:/docs
  → [ROOT]/out
  Fetched: 124 of 6.5K in 1 request, 2.1K from the cache

"#]]);
}

#[test]
fn inspect() {
    let place = Place::pushed();
    place.run("inspect HOST/team/project:v1").success().stderr_eq(str![]).stdout_eq(str![[r#"
Reference:    [HOST]/team/project:v1
Digest:       sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9
Files:        7
Links:        1
Empty dirs:   1
Size:         124 (124 uncompressed)
Compression:  none
Created:      2023-11-14T22:13:20Z
Annotations:
  org.opencontainers.image.created: 2023-11-14T22:13:20Z

"#]]);
    place.run("push -q --reproducible -a version=1.0.0 -a author= oci:layout:v1 project").success();
    place.run("inspect --referrers oci:layout:v1").success().stdout_eq(str![[r#"
Reference:    oci:layout:v1
Digest:       sha256:23eed7be0cec5562998c78d3814842cf86fc018d0f7ca0dc346fb5064122b1b8
Files:        7
Links:        1
Empty dirs:   1
Size:         124 (124 uncompressed)
Compression:  none
Created:      2023-11-14T22:13:20Z
Annotations:
  author: 
  org.opencontainers.image.created: 2023-11-14T22:13:20Z
  version: 1.0.0

"#]]);
    place.run("inspect -o plain oci:layout:v1").success().stdout_eq(str![[r#"
annotations.author	
annotations.org.opencontainers.image.created	2023-11-14T22:13:20Z
annotations.version	1.0.0
artifact_type	application/vnd.meigma.blob.v1
compression	none
created	2023-11-14T22:13:20Z
data.digest	sha256:85fae02b37fa3e7a69e9b6b3fc3efa52e6dd7bba44ebc2e1d51be3e396237a0a
data.size	124
digest	sha256:23eed7be0cec5562998c78d3814842cf86fc018d0f7ca0dc346fb5064122b1b8
empty_dirs	1
files	7
index.digest	sha256:7ce1dfe80c6000e165279866c9015abfd3bb19de4f96fc6ed3f4bafbe2079930
index.size	1072
ref	oci:layout:v1
size.compressed	124
size.ratio	1.0
size.uncompressed	124
symlinks	1
verified	false

"#]]);
    place.run("inspect -o table oci:layout:v1").success().stdout_eq(str![[r#"
FIELD                                         VALUE
annotations.author                            
annotations.org.opencontainers.image.created  2023-11-14T22:13:20Z
annotations.version                           1.0.0
artifact_type                                 application/vnd.meigma.blob.v1
compression                                   none
created                                       2023-11-14T22:13:20Z
data.digest                                   sha256:85fae02b37fa3e7a69e9b6b3fc3efa52e6dd7bba44ebc2e1d51be3e396237a0a
data.size                                     124
digest                                        sha256:23eed7be0cec5562998c78d3814842cf86fc018d0f7ca0dc346fb5064122b1b8
empty_dirs                                    1
files                                         7
index.digest                                  sha256:7ce1dfe80c6000e165279866c9015abfd3bb19de4f96fc6ed3f4bafbe2079930
index.size                                    1072
ref                                           oci:layout:v1
size.compressed                               124
size.ratio                                    1.0
size.uncompressed                             124
symlinks                                      1
verified                                      false

"#]]);
}

#[test]
fn tag_and_tags() {
    let place = Place::pushed();
    place.run("tag HOST/team/project:v1 latest HOST/team/project:stable").success().stderr_eq(str![]).stdout_eq(str![
        [r#"
Tagged [HOST]/team/project:latest
Tagged [HOST]/team/project:stable
Source: [HOST]/team/project:v1
Digest: sha256:ff2dc4d10c03ae98ea37eb20a7b6f5d42587e1b3eb310875d7ce774a6776c7b9

"#]
    ]);
    place.run("tags HOST/team/project").success().stdout_eq(str![[r#"
latest
stable
v1

"#]]);
    place.run("tags -o table HOST/team/project").success().stdout_eq(str![[r#"
TAG
latest
stable
v1

"#]]);
    place.run("-q tag HOST/team/project:v1 quiet").success().stdout_eq("");
}

#[test]
fn version() {
    let place = Place::offline();
    place.run("version --short").success().stdout_eq(format!("{}\n", env!("CARGO_PKG_VERSION")));
    place.run("--version").success().stdout_eq(format!("blob {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn colour_is_for_terminals_and_those_who_ask() {
    let place = Place::pushed();
    assert!(!stdout(&place.run("ls HOST/team/project:v1")).contains('\x1b'));
    assert!(stdout(&place.run("ls --color always HOST/team/project:v1")).contains("\x1b[1;34mconfig/\x1b[0m\n"));
    assert!(!stdout(&place.run("ls --color always --no-color HOST/team/project:v1")).contains('\x1b'));
    assert!(!stdout(&place.run("ls --color always -o json HOST/team/project:v1")).contains('\x1b'));
    let mut forced = place.command("tree HOST/team/project:v1");
    assert!(stdout(&place.assert(forced.env("CLICOLOR_FORCE", "1"))).contains("\x1b[32mrun.sh\x1b[0m\n"));
}

#[test]
fn names_cannot_control_the_terminal() {
    let place = Place::served();
    fs::create_dir(place.path("odd")).unwrap();
    for name in ["\x1b[2Jx", "a\nb", "e\u{202e}vil"] {
        fs::write(place.path("odd").join(name), "x").unwrap();
    }
    place.run("push -q HOST/a/b:v1 odd").success();
    place.run("ls HOST/a/b:v1").success().stdout_eq(str![[r#"
\u{1b}[2Jx
a\nb
e\u{202e}vil

"#]]);
    place.run("tree HOST/a/b:v1").success().stdout_eq(str![[r#"
./
├── \u{1b}[2Jx
├── a\nb
└── e\u{202e}vil

0 directories, 3 files

"#]]);
    let raw = stdout(&place.run("ls -0 HOST/a/b:v1").success());
    assert_eq!(raw, "\x1b[2Jx\0a\nb\0e\u{202e}vil\0");
}
