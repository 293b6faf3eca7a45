//! `--include`, `--exclude`, `--files-from` and `.blobignore`: what of a directory or an archive is meant.

use std::collections::{HashMap, HashSet};
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use blob::core::Node;
use blob::core::create::{EntryKind, Links};
use blob::core::extract::Selection;
use blob::core::index::Directory;
use clap::Args;
use globset::{Candidate, GlobBuilder, GlobMatcher};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::Failure;

/// The name of files with rules, and how large one may be: 1 MiB.
pub(crate) const IGNORE_FILE: &str = ".blobignore";
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// How much is read of standard input, at most, where a list comes over it: 16 MiB.
pub(crate) const MAX_INPUT: u64 = 16 << 20;

/// The options of every command that takes a part of something.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Patterns {
    /// Leave out what matches, and everything in directories that do; may be repeated. `*`, `?`, `[a-z]` and `{a,b}` match
    /// within a name, `**` across directories; a pattern without a slash matches names at any depth, and one that ends in a
    /// slash directories alone.
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(crate) exclude: Vec<Pattern>,

    /// Take only files that match, those in directories that match, and no empty directories; may be repeated.
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(crate) include: Vec<Pattern>,

    /// As --include, or, behind a `!`, as --exclude.
    #[arg(short, long, value_name = "GLOB", value_parser = either)]
    pub(crate) glob: Vec<Either>,

    /// As --exclude for every line of this file, or of standard input for -; empty lines and those that begin with # count
    /// for nothing.
    #[arg(long, value_name = "FILE", value_parser = listed)]
    pub(crate) exclude_from: Vec<Listed>,

    /// As --include for every line of this file, or of standard input for -.
    #[arg(long, value_name = "FILE", value_parser = listed)]
    pub(crate) include_from: Vec<Listed>,
}

/// `--glob`.
#[derive(Clone, Debug)]
pub(crate) enum Either {
    Include(Pattern),
    Exclude(Pattern),
}

fn either(typed: &str) -> Result<Either, String> {
    match typed.strip_prefix('!') {
        Some(excluded) => pattern(excluded).map(Either::Exclude),
        None => pattern(typed).map(Either::Include),
    }
}

/// The patterns of a file.
#[derive(Clone, Debug)]
pub(crate) struct Listed(Vec<Pattern>);

/// `--exclude-from` and `--include-from`.
fn listed(file: &str) -> Result<Listed, String> {
    let failed = |error: std::io::Error| format!("reading {file}: {error}");
    let mut text = Vec::new();
    if file == "-" {
        text.clone_from(standard_input()?);
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(MAX_IGNORE_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    }
    let file = if file == "-" { "standard input" } else { file };
    if text.len() as u64 > MAX_IGNORE_FILE {
        return Err(format!("{file} is over the limit of {MAX_IGNORE_FILE} bytes"));
    }
    let text = String::from_utf8(text).map_err(|_| format!("{file} is not UTF-8"))?;
    let mut patterns = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if !line.trim().is_empty() && !line.starts_with('#') {
            let read = pattern(line.trim_end());
            patterns.push(read.map_err(|problem| format!("{file}, line {}: {problem}", number + 1))?);
        }
    }
    Ok(Listed(patterns))
}

/// What comes over standard input, which can be read once, whereas words are read again where they are not understood.
pub(crate) fn standard_input() -> Result<&'static Vec<u8>, String> {
    static READ: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let read = || {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err("standard input is a terminal: name a file, or redirect it".into());
        }
        let mut text = Vec::new();
        let read = stdin.lock().take(MAX_INPUT + 1).read_to_end(&mut text);
        read.map_err(|error| format!("reading standard input: {error}"))?;
        Ok(text)
    };
    READ.get_or_init(read).as_ref().map_err(Clone::clone)
}

impl Patterns {
    /// Whether everything is meant.
    pub(crate) fn is_empty(&self) -> bool {
        !self.includes() && self.exclude.is_empty() && self.exclude_from.is_empty() && self.glob.is_empty()
    }

    /// Whether only what matches something is meant.
    pub(crate) fn includes(&self) -> bool {
        let by_glob = self.glob.iter().any(|glob| matches!(glob, Either::Include(_)));
        by_glob || !self.include.is_empty() || !self.include_from.is_empty()
    }

    /// Nothing of the archive `typed` is meant.
    pub(crate) fn nothing_of(&self, typed: &str) -> Failure {
        let quoted = |pattern: &Pattern| format!("--include {}", pattern.typed);
        let globs = self.glob.iter().filter_map(|glob| if let Either::Include(it) = glob { Some(it) } else { None });
        let all: Vec<String> = self.include.iter().chain(globs).map(quoted).collect();
        let named = if all.is_empty() { "the patterns".into() } else { all.join(" or ") };
        let failure = Failure::not_found(format!("nothing of {typed} matches {named}"));
        failure.with_hint(format!("`blob find {typed}` lists what it has"))
    }

    /// The patterns, ready to be asked.
    pub(crate) fn filter(&self) -> Filter {
        let all = |typed: &[Pattern], listed: &[Listed]| {
            typed.iter().chain(listed.iter().flat_map(|listed| &listed.0)).cloned().collect::<Vec<_>>()
        };
        let mut include = self.includes().then(|| all(&self.include, &self.include_from));
        let mut exclude = all(&self.exclude, &self.exclude_from);
        for glob in &self.glob {
            match glob {
                Either::Include(pattern) => include.get_or_insert_default().push(pattern.clone()),
                Either::Exclude(pattern) => exclude.push(pattern.clone()),
            }
        }
        Filter { include, exclude }
    }

    /// What of `directory` is meant, as paths.
    pub(crate) fn select(&self, directory: Directory<'_>) -> Selection {
        if self.is_empty() {
            return Selection::directory(directory.path());
        }
        let filter = self.filter();
        Selection::paths(directory.nodes().filter(|node| filter.takes_node(node)).map(|node| node.path()))
    }
}

/// Compiled patterns.
#[derive(Debug)]
pub(crate) struct Filter {
    /// None if everything is taken; an empty file of patterns takes nothing.
    include: Option<Vec<Pattern>>,
    exclude: Vec<Pattern>,
}

impl Filter {
    /// Whether a path is taken whose directories are. Directories are entered to find what is in them.
    pub(crate) fn takes(&self, path: &[u8], is_dir: bool) -> bool {
        let any = |patterns: &[Pattern], path, is_dir| patterns.iter().any(|pattern| pattern.matches(path, is_dir));
        let included = |include: &Vec<Pattern>| {
            any(include, path, false) || parents(path).any(|parent| any(include, parent, true))
        };
        !any(&self.exclude, path, is_dir) && (is_dir || self.include.as_ref().is_none_or(included))
    }

    /// Whether a path is taken, and every directory above it.
    pub(crate) fn takes_whole(&self, path: &[u8], is_dir: bool) -> bool {
        parents(path).all(|parent| self.takes(parent, true)) && self.takes(path, is_dir)
    }

    /// Whether something of an archive is taken. An empty directory is not what patterns for files ask for.
    pub(crate) fn takes_node(&self, node: &Node<'_>) -> bool {
        (self.include.is_none() || !node.is_dir()) && self.takes_whole(node.path(), node.is_dir())
    }
}

/// The directories above `path`, the topmost first.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// What of a directory is pushed: patterns, a list of files and the rules of `.blobignore` files.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    pub(crate) patterns: Option<Filter>,
    pub(crate) list: Option<List>,
    pub(crate) ignore: Option<IgnoreFiles>,
    /// Leave the files with rules themselves out.
    pub(crate) drop_ignore_files: bool,
    /// The path of the layout that is pushed to, where it lies in what is pushed: it would change while it is read, and be
    /// another one each time.
    pub(crate) layout: Option<Vec<u8>>,
    /// How many things patterns and rules left out; directories with all that is in them are one.
    pub(crate) left_out: Arc<AtomicU64>,
}

impl Sieve {
    /// Whether something is taken whose directories are.
    pub(crate) fn takes(&self, path: &[u8], kind: EntryKind) -> bool {
        let is_dir = kind == EntryKind::Directory;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if self.drop_ignore_files && !is_dir && name == IGNORE_FILE.as_bytes() {
            return false;
        }
        if self.layout.as_deref() == Some(path) {
            return false;
        }
        // What is not listed was never asked for, so it is not left out.
        if self.list.as_ref().is_some_and(|list| !list.takes(path, is_dir)) {
            return false;
        }
        let by_name = self.list.as_ref().is_some_and(|list| list.names(path, is_dir));
        let taken = self.patterns.as_ref().is_none_or(|patterns| patterns.takes(path, is_dir))
            && (by_name || self.ignore.as_ref().is_none_or(|ignore| ignore.takes(path, is_dir)));
        if !taken {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

/// `--files-from`: these paths, and everything in those that are directories.
#[derive(Debug, Default)]
pub(crate) struct List {
    named: HashSet<Box<[u8]>>,
    above: HashSet<Box<[u8]>>,
}

impl List {
    /// Reads names, one a line or ended by NUL bytes. They are below `dir` and exist there.
    pub(crate) fn parse(text: &[u8], null: bool, dir: &Path) -> Result<Self, Failure> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut list = Self::default();
        for line in text.split(|byte| *byte == if null { 0 } else { b'\n' }) {
            let line = if null { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
            let normal = blob::core::path::normalize(line);
            if normal.is_empty() {
                continue;
            }
            let shown = || crate::ui::escape::shown(line);
            if normal.split(|byte| *byte == b'/').any(|element| element == b"..") || line.starts_with(b"/") {
                return Err(Failure::usage(format!("--files-from: {} is not below the directory", shown())));
            }
            if std::fs::symlink_metadata(dir.join(std::ffi::OsStr::from_bytes(&normal))).is_err() {
                return Err(Failure::not_found(format!("--files-from: {} is not in {}", shown(), dir.display())));
            }
            list.above.extend(parents(&normal).map(Box::from));
            list.named.insert(normal.as_ref().into());
        }
        Ok(list)
    }

    /// Whether the list has this very path, or something in it: rules of ignore files do not count for that.
    fn names(&self, path: &[u8], is_dir: bool) -> bool {
        self.named.contains(path) || (is_dir && self.above.contains(path))
    }

    fn takes(&self, path: &[u8], is_dir: bool) -> bool {
        self.named.contains(path)
            || (is_dir && self.above.contains(path))
            || parents(path).any(|parent| self.named.contains(parent))
    }
}

/// What stands in a directory's file, if it has one.
type Rules = Option<Arc<Gitignore>>;

/// The rules of `.blobignore` files, which are those of `.gitignore`: a file's rules hold in its directory and below, and
/// the nearest one decides.
#[derive(Debug)]
pub(crate) struct IgnoreFiles {
    root: PathBuf,
    /// The rules of each directory that was asked for, if it has any.
    read: Mutex<HashMap<Box<[u8]>, Rules>>,
    problem: Arc<Mutex<Option<Failure>>>,
    /// Whether a file with rules may be a link.
    links: Links,
}

impl IgnoreFiles {
    /// The rules below `root`, read when they are needed. What is wrong with one is put in `problem`.
    pub(crate) fn new(root: &Path, problem: Arc<Mutex<Option<Failure>>>) -> Self {
        Self { root: root.to_owned(), read: Mutex::default(), problem, links: Links::Keep }
    }

    /// What becomes of links. Directories that were come to by links have their rules either way.
    pub(crate) fn following(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// Whether a file with rules that is a link may be read. One that is not heeded would let everything be stored that it is to
    /// leave out.
    fn check_link(&self, file: &Path) -> Result<(), Failure> {
        let refused = |problem: &str, hint: &str| {
            let failure = Failure::usage(format!("{} is a symbolic link, {problem}", file.display()));
            Err(failure.with_hint(format!("{hint}, --no-ignore does without all such files")))
        };
        match self.links {
            Links::FollowOutside => Ok(()),
            Links::Follow => {
                let leads = std::fs::canonicalize(file).and_then(|to| Ok((to, std::fs::canonicalize(&self.root)?)));
                match leads {
                    Ok((to, root)) if to.starts_with(&root) => Ok(()),
                    Ok(_) => refused("and leads out of the directory", "--symlinks follow-outside reads it"),
                    Err(error) => Err(Failure::io(format!("reading the rules in {}", file.display()), &error)),
                }
            }
            _ => refused("and its rules are not heeded", "--symlinks follow reads it"),
        }
    }

    fn takes(&self, path: &[u8], is_dir: bool) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let whole = self.root.join(std::ffi::OsStr::from_bytes(path));
        let above: Vec<&[u8]> = std::iter::once(&b""[..]).chain(parents(path)).collect();
        for dir in above.into_iter().rev() {
            match self.rules(dir).as_deref().map(|rules| rules.matched(&whole, is_dir)) {
                Some(Match::Ignore(_)) => return false,
                Some(Match::Whitelist(_)) => return true,
                Some(Match::None) | None => {}
            }
        }
        true
    }

    /// The rules that stand in a directory.
    fn rules(&self, dir: &[u8]) -> Rules {
        if let Some(known) = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(dir) {
            return known.clone();
        }
        let rules = self.load(dir).unwrap_or_else(|failure| {
            self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            None
        });
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.into(), rules.clone());
        rules
    }

    fn load(&self, dir: &[u8]) -> Result<Rules, Failure> {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = self.root.join(std::ffi::OsStr::from_bytes(dir));
        let file = dir.join(IGNORE_FILE);
        let action = || format!("reading the rules in {}", file.display());
        if file.is_symlink() {
            self.check_link(&file)?;
        }
        match std::fs::metadata(&file) {
            Ok(found) if found.is_file() && found.len() > MAX_IGNORE_FILE => {
                return Err(Failure::usage(format!("{}: more than 1 MiB", action())));
            }
            // A directory of that name holds no rules; a pipe could, and nobody waits for them.
            Ok(found) if found.is_dir() => return Ok(None),
            Ok(found) if !found.is_file() => {
                let failure = Failure::usage(format!("{} is no file, and its rules are not heeded", file.display()));
                return Err(failure.with_hint("--no-ignore does without all such files"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !file.is_symlink() => return Ok(None),
            Err(error) => return Err(Failure::io(action(), &error)),
        }
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::io(action(), &error))?;
        let mut builder = GitignoreBuilder::new(&dir);
        for (number, line) in text.lines().enumerate() {
            let added = builder.add_line(Some(file.clone()), line);
            added.map_err(|error| Failure::usage(format!("{}:{}: {error}", file.display(), number + 1)))?;
        }
        let rules = builder.build().map_err(|error| Failure::usage(format!("{}: {error}", action())))?;
        Ok(Some(Arc::new(rules)))
    }
}

/// A pattern as people know it from ignore files, without negation.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    typed: Box<str>,
    glob: GlobMatcher,
    /// It matches whole paths, not names at any depth.
    anchored: bool,
    dirs_only: bool,
}

impl Pattern {
    /// Whether it matches this path itself.
    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.dirs_only && !is_dir {
            return false;
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let text = if self.anchored { path } else { name };
        self.glob.is_match_candidate(&Candidate::from_bytes(text))
    }
}

/// `--include` and `--exclude`.
fn pattern(typed: &str) -> Result<Pattern, String> {
    if typed.starts_with('!') {
        return Err(
            "a pattern is not negated by `!` here: use the other one of --include and --exclude, or --glob".into()
        );
    }
    let mut bare = typed;
    while let Some(rest) = bare.strip_prefix("./") {
        bare = rest;
    }
    let dirs_only = bare.ends_with('/');
    let trimmed = bare.trim_end_matches('/');
    let glob = trimmed.trim_start_matches('/');
    if glob.is_empty() {
        return Err("a pattern names something: it cannot be empty".into());
    }
    if glob.split('/').any(|element| element == "..") {
        return Err("paths in archives have no `..`".into());
    }
    let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).empty_alternates(true).build();
    let built = built.map_err(|error| error.kind().to_string())?;
    // `./a` says where it is as `/a` does.
    let anchored = trimmed.contains('/') || bare.len() < typed.len();
    Ok(Pattern { typed: typed.into(), glob: built.compile_matcher(), anchored, dirs_only })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn globs_match_as_people_expect() {
        for (glob, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*.log", "x.log", true),
            ("*.log", ".log", true),
            ("*.log", "x.log.gz", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyyb", false),
            ("?", "a", true),
            ("?", "/", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/bx", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/bz", false),
            ("a/*/z", "a/b/z", true),
            ("a/*/z", "a/b/c/z", false),
            ("**/*.rs", "src/a/b.rs", true),
            ("[a-m]*", "bee", true),
            ("[a-m]*", "zoo", false),
            ("[!a-m]*", "zoo", true),
            ("*.{rs,md}", "x.md", true),
            ("*.{rs,md}", "x.mdx", false),
            ("./a", "a", true),
            ("./a", "d/a", false),
            ("\\!a", "!a", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
        ] {
            let pattern = Pattern { anchored: true, ..pattern(glob).unwrap() };
            assert_eq!(pattern.matches(text.as_bytes(), false), expected, "{glob} {text}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for wrong in ["", "/", "./", "!a", "[", "{a", "../a", "a/../b"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hostile_globs_take_no_time() {
        let pattern = pattern(&("a*".repeat(200) + "b")).unwrap();
        assert!(!pattern.matches(&[b'a'; 10_000], false));
    }

    #[test]
    fn exclusion_wins_and_directories_are_entered() {
        use EntryKind::{Directory, File};
        let typed =
            |patterns: &str| patterns.split_whitespace().map(|typed| pattern(typed).unwrap()).collect::<Vec<_>>();
        for (include, exclude, path, kind, expected) in [
            ("", "", "a", File, true),
            ("", "*.log", "d/x.log", File, false),
            ("", "/x.log", "x.log", File, false),
            ("", "/x.log", "d/x.log", File, true),
            ("*.rs", "", "src/a.rs", File, true),
            ("*.rs", "", "src/a.md", File, false),
            ("*.rs", "", "src", Directory, true),
            ("*.rs", "target/", "target", Directory, false),
            ("*.rs", "target/", "target", File, false),
            ("", "target/", "target", File, true),
            ("*.rs", "a.*", "a.rs", File, false),
            ("src/", "", "src/a/b.md", File, true),
            ("src", "", "x/src/b.md", File, true),
            ("src/", "", "src", File, false),
            ("src/a", "", "src/b", File, false),
        ] {
            let filter = Patterns { include: typed(include), exclude: typed(exclude), ..Patterns::default() }.filter();
            let takes = filter.takes(path.as_bytes(), kind == Directory);
            assert_eq!(takes, expected, "{include:?} {exclude:?} {path}");
        }
    }

    #[test]
    fn in_an_archive_what_is_excluded_goes_with_all_below() {
        let filter =
            Patterns { exclude: vec![pattern("docs/").unwrap(), pattern("*.log").unwrap()], ..Patterns::default() }
                .filter();
        for (path, expected) in
            [("a", true), ("docs", true), ("docs/a", false), ("x/docs/a/b", false), ("x/a.log", false)]
        {
            assert_eq!(filter.takes_whole(path.as_bytes(), false), expected, "{path}");
        }
    }

    #[test]
    fn a_list_means_files_and_whole_directories() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::fs::write(dir.path().join("x y"), "").unwrap();
        let list = List::parse(b"./a/b\r\n\nx y\n", false, dir.path()).unwrap();
        for (path, is_dir, expected) in [
            ("a", true, true),
            ("a", false, false),
            ("a/b", true, true),
            ("a/b/c", true, true),
            ("a/z", false, false),
            ("x y", false, true),
            ("z", true, false),
        ] {
            assert_eq!(list.takes(path.as_bytes(), is_dir), expected, "{path}");
        }
        assert!(List::parse(b"x y\0a", true, dir.path()).unwrap().takes(b"x y", false));
        for (wrong, code) in [("../x", 2), ("/etc", 2), ("missing", 3)] {
            assert_eq!(List::parse(wrong.as_bytes(), false, dir.path()).unwrap_err().kind.exit_code(), code);
        }
    }

    #[test]
    fn the_nearest_rules_decide() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("keep/deep")).unwrap();
        std::fs::write(dir.path().join(IGNORE_FILE), "*.log\n/only-here\nbuild/\n# comment\n").unwrap();
        std::fs::write(dir.path().join("keep").join(IGNORE_FILE), "!*.log\n").unwrap();
        let problem = Arc::default();
        let ignore = IgnoreFiles::new(dir.path(), Arc::clone(&problem));
        for (path, is_dir, expected) in [
            ("a.log", false, false),
            ("x/a.log", false, false),
            ("keep/a.log", false, true),
            ("keep/deep/a.log", false, true),
            ("only-here", false, false),
            ("x/only-here", false, true),
            ("build", true, false),
            ("build", false, true),
        ] {
            assert_eq!(ignore.takes(path.as_bytes(), is_dir), expected, "{path}");
        }
        assert!(problem.lock().unwrap().is_none());
        std::fs::create_dir(dir.path().join("bad")).unwrap();
        std::fs::write(dir.path().join("bad").join(IGNORE_FILE), "fine\n{a\n").unwrap();
        ignore.takes(b"bad/x", false);
        let text = problem.lock().unwrap().take().unwrap().text();
        assert!(text.contains("bad/.blobignore:2: "), "{text}");
    }
}
