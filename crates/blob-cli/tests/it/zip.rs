//! `export --archive zip`, read by the programs that people read ZIP files with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use blob_testkit::peers;

use crate::errors::{data_blob, flip};
use crate::support::{Place, stderr, stdout};

fn unzip(place: &Place, args: &str) -> Option<String> {
    let program = peers::require("unzip", peers::find("unzip"))?;
    let output = Command::new(program).args(args.split(' ')).current_dir(place.path("")).env("TZ", "UTC").output();
    let output = output.unwrap();
    assert!(output.status.success(), "unzip {args}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What Python says that is in the file, after it has read everything.
fn python(place: &Place, script: &str) -> Option<String> {
    let program = peers::require("python3", peers::find("python3"))?;
    let script =
        format!("import zipfile, hashlib\nz = zipfile.ZipFile('out.zip')\nassert z.testzip() is None\n{script}");
    let output = Command::new(program).args(["-c", &script]).current_dir(place.path("")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_is_unzipped_is_what_was_pushed() {
    let place = Place::pushed();
    let told = stdout(&place.run("export -f out.zip HOST/team/project:v1").success().stderr_eq(""));
    assert!(told.contains("  File: out.zip\n  Files: 7\n") && told.contains(" as zip)\n"), "{told}");
    let streamed = place.run("export -a zip HOST/team/project:v1").success();
    assert!(streamed.get_output().stdout == fs::read(place.path("out.zip")).unwrap(), "the stream and the file differ");
    let Some(_) = unzip(&place, "-q out.zip -d out") else { return };
    assert_eq!(place.listing("out"), place.listing("project"));
    place.run("diff project out").success().stdout_eq("");
    for (path, mode) in [("run.sh", 0o755), ("config/database.json", 0o600), ("empty", 0o755)] {
        let found = fs::metadata(place.path("out").join(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
    }
    let written = fs::metadata(place.path("out/run.sh")).unwrap().modified().unwrap();
    assert_eq!(written, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    assert_eq!(fs::read_link(place.path("out/settings")).unwrap().to_str(), Some("config/app.yaml"));
    // A part, by patterns, on its way through a pipe.
    place.run("export -f out.zip -g *.md HOST/team/project:v1 docs").success();
    assert_eq!(python(&place, "print(z.namelist())").as_deref(), Some("['docs/api/reference.md', 'docs/guide.md']\n"));
}

#[test]
fn large_files_stream_and_small_ones_know_their_sizes() {
    let place = Place::offline();
    fs::create_dir(place.path("data")).unwrap();
    let text = "some text that compresses\n".repeat(400_000);
    fs::write(place.path("data/large.txt"), &text).unwrap();
    let mut noise = vec![0_u8; 9 << 20];
    let mut seed = 1_u64;
    for byte in &mut noise {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (seed >> 56) as u8;
    }
    fs::write(place.path("data/large.png"), &noise).unwrap();
    fs::write(place.path("data/sm\u{e4}ll"), text.get(..5000).unwrap()).unwrap();
    fs::write(place.path("data/tiny"), "x").unwrap();
    place.run("push -q oci:layout:v1 data").success();
    place.run("export -f out.zip oci:layout:v1").success();
    let script = "for i in z.infolist(): print(i.filename, i.file_size, i.compress_size < i.file_size, \
                  bool(i.flag_bits & 8), hashlib.sha256(z.read(i)).hexdigest()[:8])";
    let Some(listed) = python(&place, script) else { return };
    let digest = |name: &str| {
        let found = stdout(&place.run(&format!("ls --digest -o plain oci:layout:v1 {name}")).success());
        let at = found.find("sha256:").unwrap();
        found[at + 7..at + 15].to_owned()
    };
    let expected = format!(
        "large.png 9437184 False True {}\nlarge.txt 10400000 True True {}\nsm\u{e4}ll 5000 True False {}\ntiny 1 False False {}\n",
        digest("large.png"),
        digest("large.txt"),
        digest("sm\u{e4}ll"),
        digest("tiny")
    );
    assert_eq!(listed, expected);
    // A damaged large file is noticed at its end, and no file gets the name.
    flip(&data_blob(&place.path("layout")), 5 << 20);
    fs::remove_file(place.path("out.zip")).unwrap();
    place.run("export -f out.zip oci:layout:v1").code(7);
    assert!(!place.path("out.zip").exists());
}

#[test]
fn more_members_than_sixteen_bits_count() {
    let place = Place::offline();
    fs::create_dir(place.path("many")).unwrap();
    for number in 0..65_600 {
        fs::File::create(place.path("many").join(number.to_string())).unwrap();
    }
    place.run("push -q oci:layout:v1 many").success();
    place.run("export -f out.zip oci:layout:v1").success();
    assert_eq!(python(&place, "print(len(z.namelist()))").as_deref().unwrap_or("65600\n"), "65600\n");
}

#[test]
fn names_that_readers_take_for_others_are_refused() {
    let place = Place::offline();
    fs::create_dir(place.path("odd")).unwrap();
    fs::write(place.path("odd/a\\b"), "x").unwrap();
    place.run("push -q oci:layout:v1 odd").success();
    let refused = place.run("export -f out.zip oci:layout:v1").code(1).stdout_eq("");
    assert!(stderr(&refused).contains("cannot hold the name"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("hint: leave it out by --exclude"), "{}", stderr(&refused));
    assert!(!place.path("out.zip").exists());
    place.run("export -a tar -f out.zip oci:layout:v1").success();
    assert!(!fs::read(place.path("out.zip")).unwrap().starts_with(b"PK"));
}
