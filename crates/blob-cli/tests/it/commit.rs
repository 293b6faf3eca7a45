//! Which commit a build says that it is of.

#[path = "../../build/commit.rs"]
mod find;

use std::fs;

/// Names one commit each.
const ONE: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";

#[test]
fn a_clone_says_its_commit() {
    for (files, expected) in [
        (vec![], None),
        (vec![(".git/HEAD", ONE)], Some(ONE)),
        (vec![(".git/HEAD", "ref: refs/heads/main\n"), (".git/refs/heads/main", OTHER)], Some(OTHER)),
        (
            vec![
                (".git/HEAD", "ref: refs/heads/main"),
                (".git/packed-refs", &format!("# pack-refs\n{ONE} refs/heads/mainline\n{OTHER} refs/heads/main\n")),
            ],
            Some(OTHER),
        ),
        // A working tree beside the first one.
        (
            vec![
                (".git", "gitdir: real/worktrees/w\n"),
                ("real/worktrees/w/HEAD", "ref: refs/heads/w\n"),
                ("real/worktrees/w/commondir", "../..\n"),
                ("real/refs/heads/w", ONE),
            ],
            Some(ONE),
        ),
        (
            vec![("crates/blob-cli/.cargo_vcs_info.json", &format!("{{\"git\": {{\"sha1\": \"{OTHER}\"}}}}"))],
            Some(OTHER),
        ),
        // A branch without a commit, and what is none.
        (vec![(".git/HEAD", "ref: refs/heads/main\n")], None),
        (vec![(".git/HEAD", "something else")], None),
    ] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("crates/blob-cli");
        fs::create_dir_all(&dir).unwrap();
        for (path, content) in &files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let found = find::find(&dir);
        assert_eq!(found.as_ref().map(|found| found.commit.as_str()), expected, "{files:?}");
        // Who builds looks again when one of them changes.
        assert!(found.iter().flat_map(|found| &found.files).all(|file| file.is_file()), "{files:?}");
    }
}
