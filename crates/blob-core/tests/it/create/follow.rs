//! Links that are followed: what they lead to is stored, within the directory or anywhere, and nothing else is ever read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex, Once};

use blob_core::create::{Change, EntryKind, LinkProblem, Links, Reproducible};
use blob_core::{CreateError, CreateOptions, Created, Event};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{archive, noise, options, paths, read, tree, watch, write};

fn following(links: Links) -> CreateOptions {
    options(|options| options.symlinks = links)
}

fn within(dir: &Path) -> Result<(Created, Vec<u8>), CreateError> {
    archive(dir, &following(Links::Follow))
}

fn anywhere(dir: &Path) -> Result<(Created, Vec<u8>), CreateError> {
    archive(dir, &following(Links::FollowOutside))
}

/// Makes links: where, and to what.
fn link(dir: &Path, links: &[(&str, &str)]) {
    for (path, target) in links {
        symlink(target, dir.join(path)).unwrap();
    }
}

/// The link, what it says, and why it was not followed.
fn refusal(error: &CreateError) -> (String, String, LinkProblem) {
    let CreateError::Link { path, target, problem } = error else { panic!("{error:?}") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(path), text(target), *problem)
}

#[test]
fn files_and_directories_stand_in_the_place_of_links() {
    let dir = tree(&[("data/a", b"first"), ("data/sub/b", b"second"), ("file", b"third")]);
    fs::create_dir(dir.path().join("data/void")).unwrap();
    fs::set_permissions(dir.path().join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let absolute = dir.path().canonicalize().unwrap().join("data/sub");
    link(
        dir.path(),
        &[
            ("to-file", "file"),
            ("to-dir", "data"),
            ("data/sub/up", "../../file"),
            ("chain", "to-link"),
            ("to-link", "./to-dir//sub/../a"),
            ("absolute", absolute.to_str().unwrap()),
            ("slash", "data/sub/"),
        ],
    );
    let (created, data) = within(dir.path()).unwrap();
    let expected = [
        "absolute/b",
        "absolute/up",
        "chain",
        "data/a",
        "data/sub/b",
        "data/sub/up",
        "file",
        "slash/b",
        "slash/up",
        "to-dir/a",
        "to-dir/sub/b",
        "to-dir/sub/up",
        "to-file",
        "to-link",
    ];
    assert_eq!(paths(&created.index), expected);
    for (path, content) in [("chain", "first"), ("absolute/up", "third"), ("to-dir/sub/b", "second")] {
        assert_eq!(read(&created.index, &data, path), content.as_bytes(), "{path}");
    }
    let empty: Vec<_> = created.index.root().empty_dirs().map(|dir| dir.path().to_vec()).collect();
    assert_eq!(empty, [&b"data/void"[..], b"to-dir/void"]);
    let (entry, state) = (created.index.entry("to-file").unwrap(), fs::metadata(dir.path().join("file")).unwrap());
    assert_eq!((entry.mode(), entry.mtime_ns()), (0o640, state.mtime() * 1_000_000_000 + state.mtime_nsec()));
    let report = &created.report;
    // `up` is followed in each of the four places where it is.
    assert_eq!((report.followed_symlinks, report.symlinks, report.empty_dirs), (10, 0, 2));
    assert_eq!((report.hard_linked, report.stored_raw + report.compressed), (11, 3));
    assert_eq!(data.len(), "firstsecondthird".len());
}

#[test]
fn what_is_outside_is_taken_where_that_is_wanted_alone() {
    let outside = tree(&[("far/a", b"a"), ("b", b"b")]);
    let far = outside.path().canonicalize().unwrap();
    link(&far, &[("far/again", "../b")]);
    for target in [far.join("far").to_str().unwrap(), "../far/../far"] {
        let dir = outside.path().join("top");
        fs::create_dir(&dir).unwrap();
        link(&dir, &[("out", target)]);
        let error = within(&dir).unwrap_err();
        assert_eq!(refusal(&error), ("out".into(), target.into(), LinkProblem::Outside));
        let text =
            format!("the symbolic link \"out\" to \"{target}\" cannot be followed: it leads out of the directory");
        assert_eq!(error.to_string(), text);
        let (created, data) = anywhere(&dir).unwrap();
        assert_eq!(paths(&created.index), ["out/a", "out/again"]);
        assert_eq!(read(&created.index, &data, "out/again"), b"b");
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_way_out_and_back_in_stays_within() {
    let above = tree(&[("top/d/file", b"x")]);
    let top = above.path().join("top");
    link(&top, &[("back", "../top/d"), ("d/self", "../../top/d/file")]);
    let (created, _) = within(&top).unwrap();
    assert_eq!(paths(&created.index), ["back/file", "back/self", "d/file", "d/self"]);
    // The directory may be named by a link itself.
    link(above.path(), &[("name", "top")]);
    let (again, _) = within(&above.path().join("name")).unwrap();
    assert_eq!(again.index.as_bytes(), created.index.as_bytes());
}

#[test]
fn links_that_lead_nowhere_are_errors() {
    for target in ["missing", "missing/../file", "file/", "file/.", "file/x", "/nonexistent/x", "d/../../gone"] {
        for links in [Links::Follow, Links::FollowOutside] {
            let dir = tree(&[("file", b"x"), ("d/x", b"x")]);
            link(dir.path(), &[("l", target)]);
            let mut data = Vec::new();
            let error = blob_core::create(dir.path(), &mut data, &following(links)).unwrap_err();
            assert_eq!(refusal(&error), ("l".into(), target.into(), LinkProblem::Nowhere));
            assert!(data.is_empty());
        }
    }
}

#[test]
fn circles_end_where_they_close() {
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 5] = [
        (&[("l", ".")], "l", "."),
        (&[("t/l", "../t")], "t/l", "../t"),
        (&[("t/u/l", "../..")], "t/u/l", "../.."),
        (&[("t/l", "../u"), ("u/m", "../t/x/..")], "t/l/m", "../t/x/.."),
        (&[("t/l", "../u/v"), ("u/v/m", "../../w"), ("w/n", "../t")], "t/l/m/n", "../t"),
    ];
    for (links, path, target) in cases {
        let dir = tree(&[("t/x/f", b"x"), ("t/u/f", b"x"), ("u/v/f", b"x"), ("w/f", b"x")]);
        link(dir.path(), links);
        let one = options(|options| {
            options.symlinks = Links::Follow;
            // Which of several paths around a circle is met first is by chance: leave one.
            options.filter = Some(Arc::new(|path: &[u8], _| path[0] != b'u' && path[0] != b'w'));
        });
        let error = archive(dir.path(), &one).unwrap_err();
        assert_eq!(refusal(&error), (path.into(), target.into(), LinkProblem::Circle));
        assert!(matches!(within(dir.path()), Err(CreateError::Link { problem: LinkProblem::Circle, .. })));
    }
}

#[test]
fn circles_through_the_outside_end_too() {
    let above = tree(&[("top/d/file", b"x"), ("beside/file", b"y")]);
    let top = above.path().join("top");
    link(&top, &[("d/up", "../..")]);
    let error = anywhere(&top).unwrap_err();
    assert_eq!(refusal(&error), ("d/up/top/d/up".into(), "../..".into(), LinkProblem::Circle));
    fs::remove_file(top.join("d/up")).unwrap();
    link(above.path(), &[("top/d/l", "../../beside"), ("beside/m", "../top")]);
    let error = anywhere(&top).unwrap_err();
    assert_eq!(refusal(&error), ("d/l/m".into(), "../top".into(), LinkProblem::Circle));
}

#[test]
fn links_to_themselves_and_long_chains_are_errors() {
    let dir = tree(&[("n00", b"x")]);
    link(dir.path(), &[("self", "self")]);
    let error = within(dir.path()).unwrap_err();
    assert_eq!(refusal(&error), ("self".into(), "self".into(), LinkProblem::TooManyLinks));
    fs::remove_file(dir.path().join("self")).unwrap();
    for number in 1..=41 {
        link(dir.path(), &[(&format!("n{number:02}"), &format!("n{:02}", number - 1))]);
        let result = within(dir.path());
        // The kernel says the same.
        let opened = fs::metadata(dir.path().join(format!("n{number:02}")));
        assert_eq!((result.is_ok(), opened.is_ok()), (number <= 40, number <= 40), "{number}");
        if number == 41 {
            assert_eq!(refusal(&result.unwrap_err()), ("n41".into(), "n40".into(), LinkProblem::TooManyLinks));
        }
    }
}

#[test]
fn links_within_links_count_as_those_of_one_path() {
    let dir = tree(&[]);
    for number in 0..=41 {
        fs::create_dir(dir.path().join(format!("d{number}"))).unwrap();
    }
    for number in 0..=40 {
        link(dir.path(), &[(&format!("d{number}/l"), &format!("../d{}", number + 1))]);
    }
    let error = within(dir.path()).unwrap_err();
    assert_eq!(refusal(&error).2, LinkProblem::TooManyLinks);
    fs::remove_file(dir.path().join("d40/l")).unwrap();
    let (created, _) = within(dir.path()).unwrap();
    assert_eq!(created.report.empty_dirs, 42);
}

#[test]
fn two_ways_to_one_directory_are_fine_and_bounded() {
    let dir = tree(&[("d0/x", b"x")]);
    for level in 1..=12 {
        fs::create_dir(dir.path().join(format!("d{level}"))).unwrap();
        for side in ["a", "b"] {
            link(dir.path(), &[(&format!("d{level}/{side}"), &format!("../d{}", level - 1))]);
        }
    }
    let (created, data) = within(dir.path()).unwrap();
    assert_eq!((created.report.files, data.len()), ((1 << 13) - 1, 1));
    // 60 levels would be more than anybody can wait for, with a file at the end or without.
    for level in 13..=38 {
        fs::create_dir(dir.path().join(format!("d{level}"))).unwrap();
        for side in ["a", "b"] {
            link(dir.path(), &[(&format!("d{level}/{side}"), &format!("../d{}", level - 1))]);
        }
    }
    let mut limited = following(Links::Follow);
    limited.max_files = 5000;
    assert!(matches!(archive(dir.path(), &limited), Err(CreateError::TooManyFiles { limit: 5000 })));
    fs::remove_file(dir.path().join("d0/x")).unwrap();
    limited.empty_dirs = blob_core::create::Presence::Skip;
    assert!(matches!(archive(dir.path(), &limited), Err(CreateError::TooManyFiles { limit: 5000 })));
}

#[test]
fn bytes_of_one_file_count_once() {
    let dir = tree(&[("file", &noise(1, 9 << 20))]);
    link(dir.path(), &[("a", "file"), ("b", "a"), ("z", "file")]);
    let mut limited = following(Links::Follow);
    limited.max_bytes = 10 << 20;
    let (created, data) = archive(dir.path(), &limited).unwrap();
    assert_eq!((created.report.hard_linked, data.len()), (3, 9 << 20));
    assert_eq!(read(&created.index, &data, "z"), noise(1, 9 << 20));
    limited.max_bytes = 8 << 20;
    assert!(matches!(archive(dir.path(), &limited), Err(CreateError::TooLarge { .. })));
}

#[test]
fn special_files_behind_links_are_counted_and_not_opened() {
    let dir = tree(&[("file", b"x")]);
    mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    link(dir.path(), &[("to-fifo", "fifo"), ("zero", "/dev/zero")]);
    assert_eq!(refusal(&within(dir.path()).unwrap_err()).0, "zero");
    let (created, _) = anywhere(dir.path()).unwrap();
    assert_eq!(created.report.special.to_string(), "\"fifo\", \"to-fifo\", \"zero\"");
    assert_eq!((paths(&created.index), created.report.followed_symlinks), (vec!["file".to_owned()], 0));
    let strict = options(|options| (options.symlinks, options.strict_loss) = (Links::FollowOutside, true));
    assert!(matches!(archive(dir.path(), &strict), Err(CreateError::Loss { left_out }) if left_out.count == 3));
}

#[test]
fn a_filter_is_told_what_links_lead_to() {
    let dir = tree(&[("d/x", b"x"), ("d/y", b"y"), ("file", b"z")]);
    link(
        dir.path(),
        &[
            ("l-dir", "d"),
            ("l-file", "file"),
            ("l-gone", "gone"),
            ("l-out", "/etc"),
            ("l-self", "l-self"),
            ("d/top", ".."),
        ],
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let filtered = options(|options| {
        options.symlinks = Links::Follow;
        options.filter = Some(Arc::new(move |path: &[u8], kind| {
            if path.starts_with(b"l-") {
                told.lock().unwrap().push((String::from_utf8(path.to_vec()).unwrap(), kind));
            }
            !matches!(path, b"l-gone" | b"l-out" | b"l-self" | b"d/top" | b"l-dir/top" | b"l-dir/x")
        }));
    });
    let (created, _) = archive(dir.path(), &filtered).unwrap();
    assert_eq!(paths(&created.index), ["d/x", "d/y", "file", "l-dir/y", "l-file"]);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let kinds = [
        ("l-dir", EntryKind::Directory),
        ("l-dir/top", EntryKind::Directory),
        ("l-dir/x", EntryKind::File),
        ("l-dir/y", EntryKind::File),
        ("l-file", EntryKind::File),
        ("l-gone", EntryKind::Symlink),
        ("l-out", EntryKind::Directory),
        ("l-self", EntryKind::Symlink),
    ];
    assert_eq!(seen, kinds.map(|(path, kind)| (path.to_owned(), kind)));
}

#[test]
fn what_is_excluded_by_its_number_is_so_by_every_path() {
    let dir = tree(&[("keep/x", b"x"), ("own/data", b"y"), ("file", b"z")]);
    link(dir.path(), &[("l", "own"), ("f", "file"), ("all", "keep/deep")]);
    fs::create_dir(dir.path().join("keep/deep")).unwrap();
    let number = |path: &str| {
        let found = fs::metadata(dir.path().join(path)).unwrap();
        (found.dev(), found.ino())
    };
    let mut options = following(Links::Follow);
    options.exclude_inodes = vec![number("own"), number("file"), number("keep/deep")];
    let (created, _) = archive(dir.path(), &options).unwrap();
    assert_eq!((paths(&created.index), created.report.followed_symlinks), (vec!["keep/x".to_owned()], 0));
}

#[test]
fn names_and_targets_may_be_any_bytes() {
    let dir = tree(&[]);
    let odd = OsStr::from_bytes(b"odd\xff\n");
    fs::write(dir.path().join(odd), "x").unwrap();
    symlink(odd, dir.path().join("l")).unwrap();
    let mut options = following(Links::Follow);
    options.unstorable_names = blob_core::create::UnstorableNames::Skip;
    let (created, data) = archive(dir.path(), &options).unwrap();
    assert_eq!((paths(&created.index), read(&created.index, &data, "l")), (vec!["l".to_owned()], b"x".to_vec()));
    symlink("missing", dir.path().join(OsStr::from_bytes(b"bad\xff"))).unwrap();
    // It is left out for its name already.
    assert_eq!(archive(dir.path(), &options).unwrap().0.report.skipped_names.count, 2);
}

#[test]
fn a_swap_after_listing_is_an_error_and_never_another_file() {
    let elsewhere = tree(&[("f", b"9876543210")]);
    let secret = elsewhere.path().join("f");
    let both = [Links::Follow, Links::FollowOutside];
    for (links, (name, target)) in
        both.into_iter().flat_map(|links| [(links, ("l", "real/d")), (links, ("k", "real/d/f"))])
    {
        let dir = tree(&[("real/d/f", b"0123456789")]);
        link(dir.path(), &[(name, target)]);
        let (real, aside, secret, once) =
            (dir.path().join("real/d"), dir.path().join("aside"), secret.clone(), Once::new());
        let mut options = following(links);
        // Only what is reached by the link is read.
        options.filter = Some(Arc::new(|path: &[u8], _| !path.starts_with(b"real") && path != b"aside"));
        options.progress = watch(move |event| {
            // The link has been followed: swap the directory behind it for a link to elsewhere.
            if matches!(event, Event::Scanning { .. }) {
                once.call_once(|| {
                    fs::rename(&real, &aside).unwrap();
                    symlink(secret.parent().unwrap(), &real).unwrap();
                });
            }
        });
        let error = archive(dir.path(), &options).unwrap_err();
        let replaced = matches!(error, CreateError::Changed { change: Change::Replaced | Change::Vanished, .. });
        assert!(replaced, "{name}: {error:?}");
    }
}

#[test]
fn archives_of_links_are_those_of_what_they_lead_to() {
    let linked = tree(&[("store/v1/a", b"a"), ("store/v1/bin/b", b"b")]);
    link(linked.path(), &[("current", "store/v1")]);
    let copied = tree(&[("store/v1/a", b"a"), ("store/v1/bin/b", b"b"), ("current/a", b"a"), ("current/bin/b", b"b")]);
    write(copied.path(), "current/a", b"a");
    let mut options = following(Links::Follow);
    options.reproducible = Some(Reproducible::default());
    let (from_links, one) = archive(linked.path(), &options).unwrap();
    let (from_files, two) = archive(copied.path(), &options).unwrap();
    assert_eq!(from_links.index.as_bytes(), from_files.index.as_bytes());
    assert_eq!(one, two);
    for threads in [1, 2, 7] {
        options.threads = std::num::NonZero::new(threads);
        assert_eq!(archive(linked.path(), &options).unwrap().0.index.as_bytes(), from_links.index.as_bytes());
    }
}
