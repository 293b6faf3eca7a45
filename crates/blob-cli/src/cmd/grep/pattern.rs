//! What matches, and how files are searched for it.

use clap::Args;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};

use crate::error::Failure;

/// The longest line, in bytes, that is searched: 64 MiB. It is held in memory.
const MAX_LINE: usize = 64 << 20;

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
}

impl MatchArgs {
    /// What finds `pattern`.
    pub(super) fn matcher(&self, pattern: &str) -> Result<RegexMatcher, Failure> {
        let mut builder = RegexMatcherBuilder::new();
        builder
            .multi_line(true)
            .line_terminator(Some(b'\n'))
            .case_insensitive(self.ignore_case)
            .case_smart(self.smart_case)
            .fixed_strings(self.fixed_strings)
            .word(self.word_regexp)
            .whole_line(self.line_regexp);
        builder.build(pattern).map_err(|error| {
            // The cause of a refusal comes on several lines, the last of which says it.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let failure = Failure::usage(format!("{:?} is no pattern: {why}", crate::ui::template::cut(pattern)));
            match (pattern.contains('\n'), self.fixed_strings) {
                (true, _) => failure.with_hint("lines are searched, so that a pattern cannot hold a line break"),
                (false, true) => failure,
                (false, false) => failure.with_hint("-F takes the pattern as it is"),
            }
        })
    }

    /// How many lines before and behind those that match are shown.
    pub(super) fn around(&self) -> (usize, usize) {
        let both = self.context.unwrap_or(0);
        (self.before_context.unwrap_or(both), self.after_context.unwrap_or(both))
    }

    pub(super) fn inverts(&self) -> bool {
        self.invert_match
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
            .before_context(before)
            .after_context(after)
            .max_matches(if once { Some(self.max_count.unwrap_or(1).min(1)) } else { self.max_count })
            .heap_limit(Some(MAX_LINE))
            .binary_detection(binary)
            .build()
    }
}
