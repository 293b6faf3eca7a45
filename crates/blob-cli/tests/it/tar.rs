//! `export` and pushes of tar streams.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use snapbox::str;

use crate::support::{Place, stderr, stdout};

/// Runs a command with `input` on its standard input.
fn fed(place: &Place, line: &str, input: &[u8]) -> snapbox::cmd::OutputAssert {
    let file = place.path("input");
    fs::File::create(&file).unwrap().write_all(input).unwrap();
    let mut command = place.command(line);
    command.stdin(Stdio::from(fs::File::open(&file).unwrap()));
    place.assert(&mut command)
}

fn system_tar(place: &Place, args: &str) -> Vec<u8> {
    let output = Command::new("tar").args(args.split(' ')).current_dir(place.path("")).output().unwrap();
    assert!(output.status.success(), "tar {args}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn digest(pushed: &snapbox::cmd::OutputAssert) -> String {
    stdout(pushed).trim().rsplit_once('@').unwrap().1.to_owned()
}

#[test]
fn a_directory_and_its_tar_stream_are_one_archive() {
    let place = Place::offline();
    let long = "d".repeat(90);
    fs::create_dir_all(place.path(format!("project/{long}/{long}"))).unwrap();
    fs::write(place.path(format!("project/{long}/{long}/file")), "deep").unwrap();
    let expected = digest(&place.run("push -q --reproducible oci:a:v1 project").success());
    for form in ["gnu", "pax", "ustar"] {
        if form == "ustar" {
            fs::remove_dir_all(place.path(format!("project/{long}"))).unwrap();
        }
        let tar = system_tar(&place, &format!("--format={form} -c -C project ."));
        let pushed = fed(&place, &format!("push -q --reproducible oci:{form}:v1 -"), &tar).success().stderr_eq("");
        if form == "ustar" {
            let expected = digest(&place.run("push -q --reproducible oci:a:v2 project").success());
            assert_eq!(digest(&pushed), expected, "{form}");
        } else {
            assert_eq!(digest(&pushed), expected, "{form}");
        }
    }
}

#[test]
fn what_is_exported_is_what_was_pushed() {
    let place = Place::pushed();
    place.run("export -f out.tar HOST/team/project:v1").success().stderr_eq("").stdout_eq(str![[r#"
Exported [HOST]/team/project:v1
  File: out.tar
  Files: 7
  Size: 124 (8.5K as tar)
  And 1 link
  And 1 empty dir
  Fetched: 124 of 3.2K in 1 request, 2.1K from the cache

"#]]);
    let first = fs::read(place.path("out.tar")).unwrap();
    let second = place.run("export HOST/team/project:v1").success().stderr_eq("");
    assert!(second.get_output().stdout == first, "the stream and the file differ");
    fs::create_dir(place.path("out")).unwrap();
    system_tar(&place, "-x -f out.tar -C out");
    assert_eq!(place.listing("out"), place.listing("project"));
    place.run("diff project out").success().stdout_eq("");
    let again = fed(&place, "push -q --reproducible oci:again:v1 -", &first).success();
    assert_eq!(digest(&again), digest(&place.run("push -q --reproducible HOST/team/project:v1 project")));
    assert!(place.listing("").iter().all(|name| !name.contains(".blob-export")), "{:?}", place.listing(""));
}

#[test]
fn times_and_modes_survive() {
    let place = Place::offline();
    place.run("push -q oci:layout:v1 project").success();
    place.run("export -q -f out.tar oci:layout:v1").success().stdout_eq("");
    place.run("push -q oci:again:v1 --from-tar out.tar").success();
    place.run("diff -m oci:layout:v1 oci:again:v1").success().stdout_eq("");
}

#[test]
fn parts_are_exported() {
    let place = Place::laid_out();
    let names = |line: &str| {
        let tar = place.run(line).success();
        fs::write(place.path("part.tar"), &tar.get_output().stdout).unwrap();
        String::from_utf8(system_tar(&place, "-t -f part.tar")).unwrap()
    };
    assert_eq!(names("export oci:layout:v1 config run.sh"), "config/app.yaml\nconfig/database.json\nrun.sh\n");
    assert_eq!(names("export oci:layout:v1 --include *.md --exclude api/"), "README.md\ndocs/guide.md\n");
    assert_eq!(names("export oci:layout:v1 empty settings"), "empty/\nsettings\n");
    assert_eq!(names("cp oci:layout:v1:/docs -"), "docs/api/reference.md\ndocs/guide.md\n");
    place.run("cp oci:layout:v1:/README.md -").success().stdout_eq("# Sample\n").stderr_eq("");
    place.run("export oci:layout:v1 dogs").code(3).stdout_eq("").stderr_eq(str![[r#"
error: path not found in archive: dogs
hint: did you mean docs?

"#]]);
    place.run("export -f nowhere/x.tar oci:layout:v1").code(3).stdout_eq("");
}

#[test]
fn odd_streams_are_refused_or_understood() {
    let place = Place::offline();
    let dir = place.path("odd");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a"), "one").unwrap();
    fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    drop(sparse);
    system_tar(&place, "--format=gnu --sparse -c -f odd.tar -C odd a b sparse");
    fs::write(dir.join("a"), "two").unwrap();
    system_tar(&place, "--format=gnu -r -f odd.tar -C odd a");
    place.run("push -q oci:odd:v1 --from-tar odd.tar").success();
    place.run("cat oci:odd:v1 a").success().stdout_eq("two");
    place.run("cat oci:odd:v1 b").success().stdout_eq("one");
    place.run("find --size 3M oci:odd:v1").success().stdout_eq("sparse\n");

    let whole = fs::read(place.path("odd.tar")).unwrap();
    system_tar(&place, "-c -z -f odd.tar.gz -C odd a");
    system_tar(&place, "-c -P --transform s,^,../, -f up.tar -C odd a");
    system_tar(&place, "-c -P --transform s,^,/, -f absolute.tar -C odd a");
    for (name, input, wanted) in [
        ("empty", Vec::new(), "the stream is empty"),
        ("short", whole[..700].to_vec(), "cannot be read as tar"),
        ("text", b"hello ".repeat(200), "cannot be read as tar"),
        ("gzip", fs::read(place.path("odd.tar.gz")).unwrap(), "compressed by gzip"),
        ("up", fs::read(place.path("up.tar")).unwrap(), "with `..` in it"),
        ("absolute", fs::read(place.path("absolute.tar")).unwrap(), "absolute path"),
    ] {
        let failed = fed(&place, "push oci:bad:v1 -", &input).code(1).stdout_eq("");
        assert!(stderr(&failed).contains(wanted), "{name}: {}", stderr(&failed));
    }
    place.run("push oci:bad:v1 --from-tar none.tar").code(3);
    place.run("push oci:bad:v1 project --from-tar odd.tar").code(2);
    place.run("push oci:bad:v1").code(2);
}

/// A header of a tar stream; content of `size` bytes follows it.
fn header(name: &[u8], kind: u8, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..124].copy_from_slice(b"0000000\x000000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// A header, its content and what fills its last block.
fn member(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut member = header(name, kind, content.len());
    member.extend_from_slice(content);
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

#[test]
fn what_is_said_about_members_has_a_limit() {
    let place = Place::offline();
    let (file, large) = (member(b"file", b'0', b"content"), vec![b'a'; 2 << 20]);
    for kind in [b'x', b'L', b'K'] {
        let stream = [member(b"before", b'0', b""), member(b"headers", kind, &large), file.clone()].concat();
        let failed = fed(&place, "push oci:layout:v1 -", &stream).code(1).stdout_eq("");
        let wanted = "after 1 members come more than 1048576 bytes of headers for a single one";
        assert!(stderr(&failed).contains(wanted), "{kind}: {}", stderr(&failed));
    }
    // What is no description of a member is passed over, however large it is.
    let stream = [member(b"global", b'g', &large), member(b"pipe", b'6', &large), file.clone()].concat();
    fed(&place, "push -q oci:layout:v1 -", &stream).success();
    place.run("ls oci:layout:v1").success().stdout_eq("file\n");
    // A name may be long.
    let name = format!("{}file", "d/".repeat(1000));
    let stream = [member(b"headers", b'L', name.as_bytes()), file].concat();
    fed(&place, "push -q oci:layout:v2 -", &stream).success();
    place.run(&format!("cat oci:layout:v2 {name}")).success().stdout_eq("content");
}

#[test]
fn sparse_members_in_pax_form_are_refused() {
    let place = Place::offline();
    fs::create_dir(place.path("odd")).unwrap();
    fs::File::create(place.path("odd/sparse")).unwrap().set_len(3 << 20).unwrap();
    for version in ["0.0", "0.1", "1.0"] {
        system_tar(&place, &format!("--format=posix --sparse --sparse-version={version} -c -f s.tar -C odd sparse"));
        let failed = place.run("push oci:layout:v1 --from-tar s.tar").code(1).stdout_eq("");
        assert!(stderr(&failed).contains("write the stream without --sparse"), "{version}: {}", stderr(&failed));
    }
}

/// What is no file is written to, and stays what it is.
#[test]
fn devices_are_written_to() {
    let place = Place::offline();
    place.run("push -q oci:a:v1 project").success();
    std::os::unix::fs::symlink("/dev/null", place.path("null")).unwrap();
    for form in ["tar", "zip"] {
        place.run(&format!("export -q -a {form} -f null oci:a:v1")).success();
        assert!(fs::symlink_metadata(place.path("null")).unwrap().is_symlink(), "{form}");
    }
    let refused = place.run("--config null config set cache.max-size 2G").failure();
    assert!(stderr(&refused).contains("no regular file"), "{}", stderr(&refused));
    assert!(fs::symlink_metadata(place.path("null")).unwrap().is_symlink());
}
