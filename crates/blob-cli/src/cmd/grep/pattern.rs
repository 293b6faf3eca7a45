//! What matches, and how files are searched for it.

use std::fs::File;
use std::io::Read as _;

use clap::Args;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};

use super::place::breaks;
use crate::error::Failure;
use crate::filter::{MAX_INPUT, standard_input};
use crate::ui::template::cut;

/// The longest line, in bytes, that is searched: 64 MiB. It is held in memory.
pub(super) const MAX_LINE: usize = 64 << 20;

/// What matches nothing.
const NEVER: &str = r"[^\s\S]";

#[derive(Args, Clone, Debug)]
pub(super) struct PatternArgs {
    /// Take lines that match this pattern; may be repeated, for lines that match any of several. The first operand is REF
    /// then.
    #[arg(short = 'e', long, value_name = "PATTERN", allow_hyphen_values = true)]
    regexp: Vec<String>,

    /// Take a pattern from each line of this file, or of standard input for -; may be repeated.
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
}

impl PatternArgs {
    /// Whether there are patterns, or files of them.
    pub(super) fn is_given(&self) -> bool {
        !self.regexp.is_empty() || !self.file.is_empty()
    }

    /// All patterns, with the one that is an `operand`.
    pub(super) fn all(&self, operand: Option<&str>) -> Result<Vec<String>, Failure> {
        let mut patterns: Vec<String> = operand.into_iter().map(str::to_owned).chain(self.regexp.clone()).collect();
        for file in &self.file {
            let text = listed(file).map_err(Failure::usage)?;
            patterns.extend(text.lines().map(str::to_owned));
        }
        Ok(patterns)
    }
}

/// The text of a file of patterns.
fn listed(file: &str) -> Result<String, String> {
    let (name, bytes) = if file == "-" {
        ("standard input", standard_input()?.clone())
    } else {
        let mut bytes = Vec::new();
        let opened = File::open(file).and_then(|opened| opened.take(MAX_INPUT + 1).read_to_end(&mut bytes));
        opened.map_err(|error| format!("reading the patterns in {file}: {error}"))?;
        (file, bytes)
    };
    if bytes.len() as u64 > MAX_INPUT {
        return Err(format!("reading the patterns in {name}: more than 16 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = breaks(before) + 1;
        format!("reading the patterns in {name}: line {line} is not UTF-8")
    })
}

#[derive(Args, Clone, Debug)]
pub(super) struct MatchArgs {
    /// Case apart.
    #[arg(short, long, overrides_with = "smart_case")]
    ignore_case: bool,

    /// Case apart, unless the pattern has capitals.
    #[arg(short = 'S', long)]
    smart_case: bool,

    /// The pattern is a text, not a regular expression.
    #[arg(short = 'F', long)]
    fixed_strings: bool,

    /// Match whole words.
    #[arg(short, long)]
    word_regexp: bool,

    /// Match whole lines.
    #[arg(short = 'x', long)]
    line_regexp: bool,

    /// Let a pattern match across lines; `.` matches no line break all the same, but `(?s:.)` does. Files are searched as a
    /// whole, and those of more than 64 MiB are not.
    #[arg(short = 'U', long, conflicts_with = "invert_match")]
    multiline: bool,

    /// Take the lines that do not match. (-v tells more, as everywhere.)
    #[arg(long)]
    invert_match: bool,

    /// Stop reading a file after so many lines that match.
    #[arg(short, long, value_name = "N")]
    max_count: Option<u64>,

    /// Search binary files as if they were text.
    #[arg(short = 'a', long)]
    text: bool,

    /// Show so many lines behind each that matches.
    #[arg(short = 'A', long, value_name = "N")]
    after_context: Option<usize>,

    /// Show so many lines before each that matches.
    #[arg(short = 'B', long, value_name = "N")]
    before_context: Option<usize>,

    /// Show so many lines around each that matches.
    #[arg(short = 'C', long, value_name = "N")]
    context: Option<usize>,

    /// As in grep(1), where it says what is done here in any case: directories are searched with all that is in them.
    #[arg(short, short_alias = 'R', long, hide = true, overrides_with = "recursive")]
    recursive: bool,
}

impl MatchArgs {
    /// What finds lines that match one of `patterns`.
    pub(super) fn matcher(&self, patterns: &[String]) -> Result<RegexMatcher, Failure> {
        let mut builder = RegexMatcherBuilder::new();
        builder
            .multi_line(true)
            .line_terminator((!self.multiline).then_some(b'\n'))
            .case_insensitive(self.ignore_case)
            .case_smart(self.smart_case)
            .fixed_strings(self.fixed_strings)
            .word(self.word_regexp)
            .whole_line(self.line_regexp);
        // They are put in brackets as text, and one of theirs could close these.
        if !self.fixed_strings {
            for pattern in patterns {
                let parsed = regex_syntax::ast::parse::Parser::new().parse(pattern);
                parsed.map_err(|error| self.refused(Some(pattern), &error.to_string()))?;
            }
        }
        let built = match patterns {
            [] => builder.fixed_strings(false).build(NEVER),
            patterns => builder.build_many(patterns),
        };
        built.map_err(|error| {
            let alone = |pattern: &&String| builder.build(pattern).is_err();
            self.refused(patterns.iter().find(alone).map(String::as_str), &error.to_string())
        })
    }

    /// What is wrong with `pattern`, or with all together.
    fn refused(&self, pattern: Option<&str>, text: &str) -> Failure {
        // The cause of a refusal comes on several lines, the last of which says it.
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let Some(pattern) = pattern else {
            return Failure::usage(format!("the patterns cannot be searched for together: {why}"));
        };
        let failure = Failure::usage(format!("{:?} is no pattern: {why}", cut(pattern)));
        if !self.multiline && (pattern.contains('\n') || why.contains("\\n")) {
            return failure.with_hint("lines are searched one by one: -U searches across them");
        }
        match (["(?=", "(?!", "(?<=", "(?<!", "(?>"].iter().any(|sign| pattern.contains(sign)), self.fixed_strings) {
            (true, false) => {
                failure.with_hint("there is no look-around and no back-reference here, as in ripgrep without -P")
            }
            (false, false) => failure.with_hint("-F takes the pattern as it is"),
            (_, true) => failure,
        }
    }

    /// How many lines before and behind those that match are shown.
    pub(super) fn around(&self) -> (usize, usize) {
        let both = self.context.unwrap_or(0);
        (self.before_context.unwrap_or(both), self.after_context.unwrap_or(both))
    }

    pub(super) fn inverts(&self) -> bool {
        self.invert_match
    }

    /// Whether files that hold a NUL byte are passed over.
    pub(super) fn passes_over_binary(&self) -> bool {
        !self.text
    }

    /// Whether a match may go on in the next line, so that files are searched as a whole.
    pub(super) fn crosses_lines(&self, matcher: &RegexMatcher) -> bool {
        self.searcher(false, false, false).multi_line_with_matcher(matcher)
    }

    /// What searches a file; `named` says that somebody asked for this very file, `once` that one line is enough.
    pub(super) fn searcher(&self, named: bool, shows_lines: bool, once: bool) -> Searcher {
        let binary = match (self.text, named) {
            (true, _) => BinaryDetection::none(),
            (false, true) => BinaryDetection::convert(0),
            (false, false) => BinaryDetection::quit(0),
        };
        let (before, after) = if shows_lines { self.around() } else { (0, 0) };
        SearcherBuilder::new()
            .line_number(true)
            .invert_match(self.invert_match)
            .multi_line(self.multiline)
            .before_context(before)
            .after_context(after)
            .max_matches(if once { Some(self.max_count.unwrap_or(1).min(1)) } else { self.max_count })
            .heap_limit(Some(MAX_LINE))
            .binary_detection(binary)
            .build()
    }
}
