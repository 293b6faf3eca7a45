//! What the browser shows and how keys and results change it. Nothing here reads, draws or waits.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use blob::core::path::Shown;
use blob::core::{ArchiveIndex, Node};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::text::Line;

use super::preview::{AUTOMATIC, Content, LARGEST, Preview};
use super::prompt::{Prompt, Typed};
use super::rows::{Row, Rows, What};
use super::search::Needle;
use crate::ui::mode;
use crate::ui::size::{count, human};
use crate::ui::time;

/// Where keys go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Tree,
    Preview,
    Search(Prompt),
    /// The destination of a copy, and whether files there are replaced.
    Copy {
        prompt: Prompt,
        overwrite: bool,
    },
    Help,
}

/// What the runner is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Fetch this file for the preview; earlier wishes are void.
    Load(Vec<u8>),
    /// No file is wanted any more.
    Forget,
    Extract(Copy),
    /// Stop the extraction that runs.
    StopExtracting,
    /// Put text on the clipboard.
    Clip(String),
    Quit,
    Interrupt,
}

/// What is copied where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) paths: Vec<Vec<u8>>,
    pub(super) dest: PathBuf,
    pub(super) overwrite: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Outcome {
    Loaded(Vec<u8>, Result<Content, String>),
    Highlighted(Vec<u8>, Vec<Line<'static>>),
    Extracted(Result<String, String>),
}

/// The browser.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) index: Arc<ArchiveIndex>,
    pub(super) rows: Rows,
    pub(super) cursor: usize,
    pub(super) marked: BTreeSet<Box<[u8]>>,
    pub(super) preview: Preview,
    pub(super) scroll: usize,
    pub(super) mode: Mode,
    pub(super) message: String,
    pub(super) extracting: bool,
    /// Rows that the panes show, as drawn last.
    pub(super) page: usize,
    needle: Option<Needle>,
}

impl Browser {
    /// At the first row.
    pub(super) fn new(index: Arc<ArchiveIndex>) -> (Self, Vec<Effect>) {
        let mut browser = Self {
            rows: Rows::new(&index),
            index,
            cursor: 0,
            marked: BTreeSet::new(),
            preview: Preview::About(vec!["an archive without files".into()]),
            scroll: 0,
            mode: Mode::Tree,
            message: String::new(),
            extracting: false,
            page: 1,
            needle: None,
        };
        let effects = browser.look();
        (browser, effects)
    }

    /// Whether a line is being typed.
    pub(super) fn is_typing(&self) -> bool {
        matches!(self.mode, Mode::Search(_) | Mode::Copy { .. })
    }

    pub(super) fn row(&self) -> Option<&Row> {
        self.rows.as_slice().get(self.cursor)
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return vec![Effect::Interrupt];
        }
        self.message.clear();
        match std::mem::replace(&mut self.mode, Mode::Tree) {
            Mode::Search(prompt) => self.search_key(prompt, key),
            Mode::Copy { prompt, overwrite } => self.copy_key(prompt, overwrite, key),
            Mode::Help => Vec::new(),
            mode @ (Mode::Tree | Mode::Preview) => {
                let in_preview = mode == Mode::Preview;
                self.mode = mode;
                self.browse_key(in_preview, key)
            }
        }
    }

    fn browse_key(&mut self, in_preview: bool, key: KeyEvent) -> Vec<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        let step = match key.code {
            KeyCode::Up | KeyCode::Char('k') => Some(-1),
            KeyCode::Down | KeyCode::Char('j') => Some(1),
            KeyCode::PageUp => Some(-page),
            KeyCode::PageDown => Some(page),
            KeyCode::Char('u') if control => Some(-page / 2),
            KeyCode::Char('d') if control => Some(page / 2),
            KeyCode::Home | KeyCode::Char('g') => Some(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => Some(isize::MAX),
            _ => None,
        };
        if let Some(step) = step {
            return self.step(in_preview, step);
        }
        match key.code {
            KeyCode::Esc if self.extracting => return vec![Effect::StopExtracting],
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') if in_preview => {
                self.mode = Mode::Tree;
            }
            KeyCode::Esc | KeyCode::Char('q') => return vec![Effect::Quit],
            KeyCode::Tab => self.mode = if in_preview { Mode::Tree } else { Mode::Preview },
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Search(Prompt::default()),
            KeyCode::Char('n') => return self.find(false),
            KeyCode::Char('N') => return self.find(true),
            KeyCode::Char('y') => return self.clip(),
            KeyCode::Char(' ') => return self.mark(),
            KeyCode::Char('c') => self.ask_copy(),
            KeyCode::Char('p') => return self.load(LARGEST),
            KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => return self.leave(),
            KeyCode::Right | KeyCode::Enter | KeyCode::Char('l') if !in_preview => self.enter(key.code),
            _ => {}
        }
        Vec::new()
    }

    fn step(&mut self, in_preview: bool, step: isize) -> Vec<Effect> {
        if in_preview {
            let last = self.preview_lines().saturating_sub(1);
            self.scroll = self.scroll.saturating_add_signed(step).min(last);
            return Vec::new();
        }
        let last = self.rows.len().saturating_sub(1);
        self.go(self.cursor.saturating_add_signed(step).min(last))
    }

    fn preview_lines(&self) -> usize {
        match &self.preview {
            Preview::Content(content) => content.lines.len(),
            Preview::About(lines) => lines.len(),
            Preview::Loading | Preview::Large(_) | Preview::Failed(_) => 0,
        }
    }

    /// Opens or closes a directory, or goes on to the preview.
    fn enter(&mut self, key: KeyCode) {
        match self.row().map(|row| row.what) {
            Some(What::Directory { open: false }) => self.rows.open(&self.index, self.cursor),
            Some(What::Directory { open: true }) if key == KeyCode::Enter => self.rows.close(self.cursor),
            Some(What::Directory { open: true }) => {
                let inside = self.rows.as_slice().get(self.cursor + 1);
                if inside.is_some_and(|row| self.row().is_some_and(|dir| row.depth > dir.depth)) {
                    self.cursor += 1;
                }
            }
            Some(What::File { .. } | What::Symlink) => self.mode = Mode::Preview,
            Some(What::More(_)) | None => {}
        }
    }

    /// Closes the directory, or goes to the one that this is in.
    fn leave(&mut self) -> Vec<Effect> {
        if self.row().is_some_and(|row| row.what == What::Directory { open: true }) {
            self.rows.close(self.cursor);
            return Vec::new();
        }
        let parent = self.rows.parent(self.cursor);
        parent.map_or_else(Vec::new, |parent| self.go(parent))
    }

    fn go(&mut self, to: usize) -> Vec<Effect> {
        if to == self.cursor {
            return Vec::new();
        }
        self.cursor = to;
        self.look()
    }

    /// Shows what the cursor is on, as far as that costs little.
    fn look(&mut self) -> Vec<Effect> {
        self.scroll = 0;
        let Some(row) = self.row() else { return Vec::new() };
        if matches!(row.what, What::File { .. }) {
            return self.load(AUTOMATIC);
        }
        self.preview = Preview::About(about(&self.index, row));
        vec![Effect::Forget]
    }

    /// Shows the file under the cursor if it is no larger than `limit`, in bytes.
    fn load(&mut self, limit: u64) -> Vec<Effect> {
        let Some(row) = self.row().filter(|row| matches!(row.what, What::File { .. })) else { return Vec::new() };
        if row.size > limit {
            self.preview = Preview::Large(row.size);
            return vec![Effect::Forget];
        }
        let path = row.path.to_vec();
        self.preview = Preview::Loading;
        vec![Effect::Load(path)]
    }

    fn clip(&mut self) -> Vec<Effect> {
        let Some(path) = self.row().map(|row| String::from_utf8_lossy(&row.path).into_owned()) else {
            return Vec::new();
        };
        self.message = format!("copied the path {}", Shown(path.as_bytes()));
        vec![Effect::Clip(path)]
    }

    fn mark(&mut self) -> Vec<Effect> {
        if let Some(row) = self.rows.as_slice().get(self.cursor).filter(|row| !matches!(row.what, What::More(_)))
            && !self.marked.remove(&row.path)
        {
            self.marked.insert(row.path.clone());
        }
        self.step(false, 1)
    }

    // --- searching

    fn search_key(&mut self, mut prompt: Prompt, key: KeyEvent) -> Vec<Effect> {
        match prompt.key(key) {
            Typed::Given => return Vec::new(),
            Typed::Accepted => {
                if let Some(needle) = Needle::new(&prompt.text()) {
                    self.needle = Some(needle);
                }
                return self.find(false);
            }
            Typed::Changed | Typed::Nothing => {}
        }
        self.mode = Mode::Search(prompt);
        Vec::new()
    }

    fn find(&mut self, back: bool) -> Vec<Effect> {
        let Some(needle) = self.needle.clone() else {
            self.message = "nothing was searched for yet: press /".into();
            return Vec::new();
        };
        let from = self.row().map(|row| row.path.to_vec()).unwrap_or_default();
        let Some(path) = needle.next(&self.index, &from, back) else {
            self.message = "no path matches".into();
            return Vec::new();
        };
        self.message = format!("{}", Shown(&path));
        match self.rows.reveal(&self.index, &path) {
            Some(at) => {
                // Rows above may have come in, so the same number can be another row.
                self.cursor = at;
                self.look()
            }
            None => Vec::new(),
        }
    }

    // --- copying out

    fn ask_copy(&mut self) {
        if self.extracting {
            self.message = "a copy is being made: Esc stops it".into();
            return;
        }
        let default = match self.row() {
            // A link keeps its path, as directories do: it may lead to what is copied with it.
            Some(row) if self.marked.is_empty() && matches!(row.what, What::File { .. }) => {
                format!("./{}", String::from_utf8_lossy(row.name()))
            }
            Some(_) => "./".into(),
            None => return,
        };
        self.mode = Mode::Copy { prompt: Prompt::with(&default), overwrite: false };
    }

    /// What a copy would copy.
    pub(super) fn chosen(&self) -> Vec<Vec<u8>> {
        if self.marked.is_empty() {
            let row = self.row().filter(|row| !matches!(row.what, What::More(_)));
            return row.map(|row| row.path.to_vec()).into_iter().collect();
        }
        self.marked.iter().map(|path| path.to_vec()).collect()
    }

    fn copy_key(&mut self, mut prompt: Prompt, mut overwrite: bool, key: KeyEvent) -> Vec<Effect> {
        if key.code == KeyCode::Char('o') && key.modifiers.contains(KeyModifiers::CONTROL) {
            overwrite = !overwrite;
        } else {
            match prompt.key(key) {
                Typed::Given => return Vec::new(),
                Typed::Accepted if !prompt.text().trim().is_empty() => {
                    self.extracting = true;
                    let copy = Copy { paths: self.chosen(), dest: PathBuf::from(prompt.text()), overwrite };
                    return vec![Effect::Extract(copy)];
                }
                Typed::Accepted | Typed::Changed | Typed::Nothing => {}
            }
        }
        self.mode = Mode::Copy { prompt, overwrite };
        Vec::new()
    }

    /// Something that was asked for is there.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        let here = |path: &[u8]| self.row().is_some_and(|row| *row.path == *path);
        match outcome {
            Outcome::Loaded(path, Ok(content)) if here(&path) => self.preview = Preview::Content(content),
            Outcome::Loaded(path, Err(reason)) if here(&path) => self.preview = Preview::Failed(reason),
            Outcome::Highlighted(path, lines) if here(&path) => {
                if let Preview::Content(content) = &mut self.preview {
                    content.lines = lines;
                }
            }
            Outcome::Loaded(..) | Outcome::Highlighted(..) => {}
            Outcome::Extracted(result) => {
                self.extracting = false;
                if result.is_ok() {
                    self.marked.clear();
                }
                self.message = result.unwrap_or_else(|reason| reason);
            }
        }
    }
}

/// What is known about a row without reading anything.
pub(super) fn about(index: &ArchiveIndex, row: &Row) -> Vec<String> {
    let path = format!("{}", Shown(&row.path));
    let mut lines = vec![path];
    match (row.what, index.lookup(&row.path)) {
        (What::More(hidden), _) => {
            lines = vec![format!("{hidden} more are not listed; / finds them")];
        }
        (_, Some(Node::Symlink(link))) => lines.push(format!("symbolic link to {}", Shown(link.target()))),
        (_, Some(Node::EmptyDir(dir))) => {
            lines.push(format!("empty directory, {}", mode::text('d', dir.mode())));
        }
        (_, Some(Node::Directory(dir))) => {
            let (files, bytes, stored) = dir.files().fold((0, 0_u64, 0_u64), |(files, bytes, stored), file| {
                (files + 1, bytes.saturating_add(file.original_size()), stored.saturating_add(file.data_size()))
            });
            lines.push(format!("directory with {}", count(files, "file")));
            lines.push(format!("{} ({} stored)", human(bytes), human(stored)));
        }
        (_, Some(Node::File(file))) => {
            lines.push(format!("{}  {}", mode::text('-', file.mode()), time::rfc3339(file.mtime_ns())));
            lines.push(format!(
                "{} ({} stored, {})",
                human(file.original_size()),
                human(file.data_size()),
                file.compression()
            ));
            lines.push(file.digest().to_string());
        }
        (_, None) => {}
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use blob::core::{ArchivePath, Compression, Digest, IndexBuilder, NewDirectory, NewFile, NewSymlink};

    use super::*;

    fn browser(files: &[(&str, u64)]) -> Browser {
        let mut builder = IndexBuilder::new();
        for (path, size) in files {
            builder.file(NewFile {
                path: ArchivePath::new(path).unwrap(),
                data_offset: 0,
                data_size: *size,
                original_size: *size,
                hash: *Digest::sha256_of(path.as_bytes()).as_bytes().first_chunk().unwrap(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime_ns: 0,
                compression: Compression::None,
            });
        }
        builder.symlink(NewSymlink { path: ArchivePath::new("z").unwrap(), target: b"a/b".into(), mtime_ns: 0 });
        builder.empty_dir(NewDirectory { path: ArchivePath::new("e").unwrap(), mode: 0o755, mtime_ns: 0 });
        let largest = files.iter().map(|file| file.1).max().unwrap_or_default();
        Browser::new(Arc::new(builder.finish(largest, &Digest::sha256_of(b"")).unwrap())).0
    }

    fn sample() -> Browser {
        browser(&[("a/b/c.txt", 3), ("a/d.txt", 1 << 20), ("f.txt", 5), ("huge", 9 << 20)])
    }

    /// Presses keys: a character each, with names for those that are none.
    fn press(browser: &mut Browser, keys: &[&str]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for key in keys {
            let code = match *key {
                "enter" => KeyCode::Enter,
                "esc" => KeyCode::Esc,
                "tab" => KeyCode::Tab,
                "left" => KeyCode::Left,
                "right" => KeyCode::Right,
                "down" => KeyCode::Down,
                one => KeyCode::Char(one.chars().next().unwrap()),
            };
            effects = browser.key(code.into());
        }
        effects
    }

    fn shown(browser: &Browser) -> Vec<String> {
        let rows = browser.rows.as_slice().iter().enumerate();
        let row = |(at, row): (usize, &Row)| {
            let cursor = if at == browser.cursor { ">" } else { "" };
            format!("{cursor}{}{}", " ".repeat(row.depth.into()), String::from_utf8_lossy(row.name()))
        };
        rows.map(row).collect()
    }

    #[test]
    fn directories_open_and_close() {
        let mut browser = sample();
        assert_eq!(shown(&browser), [">a", "e", "f.txt", "huge", "z"]);
        press(&mut browser, &["right", "right", "enter"]);
        assert_eq!(shown(&browser), ["a", "> b", "  c.txt", " d.txt", "e", "f.txt", "huge", "z"]);
        press(&mut browser, &["left"]);
        assert_eq!(shown(&browser), ["a", "> b", " d.txt", "e", "f.txt", "huge", "z"]);
        press(&mut browser, &["left", "left"]);
        assert_eq!(shown(&browser), [">a", "e", "f.txt", "huge", "z"]);
        press(&mut browser, &["left", "k", "g"]);
        assert_eq!(browser.cursor, 0);
        press(&mut browser, &["G", "j"]);
        assert_eq!(browser.cursor, 4);
    }

    #[test]
    fn files_are_fetched_when_the_cursor_is_on_them_if_they_are_small() {
        let mut browser = sample();
        assert_eq!(press(&mut browser, &["j", "j"]), [Effect::Load(b"f.txt".to_vec())]);
        assert!(matches!(browser.preview, Preview::Loading));
        browser.outcome(Outcome::Loaded(b"other".to_vec(), Err("late".into())));
        assert!(matches!(browser.preview, Preview::Loading), "an answer about another file changes nothing");
        browser.outcome(Outcome::Loaded(b"f.txt".to_vec(), Ok(Content::of(b"one\ntwo\n"))));
        assert!(matches!(&browser.preview, Preview::Content(content) if content.lines.len() == 2));
        press(&mut browser, &["enter", "G"]);
        assert_eq!((browser.scroll, browser.mode.clone()), (1, Mode::Preview));

        let mut browser = sample();
        assert_eq!(press(&mut browser, &["right", "j", "j"]), [Effect::Forget], "1 MiB is fetched on request");
        assert!(matches!(browser.preview, Preview::Large(size) if size == 1 << 20));
        assert_eq!(press(&mut browser, &["p"]), [Effect::Load(b"a/d.txt".to_vec())]);
        press(&mut browser, &["G", "k"]);
        assert_eq!(press(&mut browser, &["p"]), [Effect::Forget], "9 MiB are not fetched at all");
    }

    #[test]
    fn searching_opens_what_leads_to_a_match_and_wraps() {
        let mut browser = sample();
        let effects = press(&mut browser, &["/", "T", "enter"]);
        assert!(effects.is_empty(), "capitals were typed: {effects:?}");
        assert_eq!(browser.message, "no path matches");
        let effects = press(&mut browser, &["/", "t", "x", "t", "enter"]);
        assert_eq!(effects, [Effect::Load(b"a/b/c.txt".to_vec())]);
        assert_eq!(shown(&browser)[..3], ["a", " b", ">  c.txt"]);
        assert_eq!(press(&mut browser, &["n", "n"]), [Effect::Load(b"f.txt".to_vec())]);
        assert_eq!(press(&mut browser, &["n"]), [Effect::Load(b"a/b/c.txt".to_vec())]);
        assert_eq!(press(&mut browser, &["N"]), [Effect::Load(b"f.txt".to_vec())]);
        assert_eq!(press(&mut browser, &["/", "q", "esc"]), [], "what is typed is not a command");
    }

    #[test]
    fn copies_take_the_marked_or_what_the_cursor_is_on() {
        let copy = |paths: &[&str], dest: &str, overwrite| {
            let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            vec![Effect::Extract(Copy { paths, dest: dest.into(), overwrite })]
        };
        let mut browser = sample();
        press(&mut browser, &["j", "j", "c"]);
        let toggle = KeyEvent::new(KeyCode::Char('o'), KeyModifiers::CONTROL);
        browser.key(toggle);
        assert_eq!(press(&mut browser, &["q", "enter"]), copy(&["f.txt"], "./f.txtq", true));
        assert!(browser.extracting);
        assert_eq!(press(&mut browser, &["c"]), [], "one copy at a time");
        assert_eq!(press(&mut browser, &["esc"]), [Effect::StopExtracting]);
        browser.outcome(Outcome::Extracted(Err("stopped".into())));
        assert_eq!((browser.extracting, browser.message.as_str()), (false, "stopped"));

        let mut browser = sample();
        press(&mut browser, &[" ", "j", " "]);
        assert_eq!(browser.marked.len(), 2);
        assert_eq!(press(&mut browser, &["c", "o", "enter"]), copy(&["a", "f.txt"], "./o", false));
        browser.outcome(Outcome::Extracted(Ok("copied".into())));
        assert!(browser.marked.is_empty());
    }

    #[test]
    fn keys_end_it() {
        let mut browser = sample();
        assert_eq!(press(&mut browser, &["?", "q"]), [], "any key leaves the help");
        assert_eq!(press(&mut browser, &["q"]), [Effect::Quit]);
        assert_eq!(press(&mut browser, &["tab", "esc"]), []);
        assert_eq!(press(&mut browser, &["esc"]), [Effect::Quit]);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut browser, &["/"]);
        assert_eq!(browser.key(interrupt), [Effect::Interrupt]);
        press(&mut browser, &["esc"]);
        assert_eq!(press(&mut browser, &["y"]), [Effect::Clip("a".into())]);
    }

    #[test]
    fn directories_with_very_many_entries_are_cut() {
        let names: Vec<String> = (0..20_010).map(|n| format!("many/{n:05}")).collect();
        let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let mut browser = browser(&files);
        press(&mut browser, &["down", "right"]);
        assert_eq!(browser.rows.len(), 20_001 + 3);
        // One that is not listed is found, as far as it can be shown.
        press(&mut browser, &["/", "2", "0", "0", "0", "9", "enter"]);
        assert_eq!(browser.row().map(|row| row.what), Some(What::More(10)));
        assert_eq!(browser.message, "many/20009");
    }
}
