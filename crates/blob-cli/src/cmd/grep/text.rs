//! What was found, for people, as grep and ripgrep write it.

use std::io::IsTerminal as _;
use std::ops::Range;

use clap::Args;

use super::found::LineKind;
use super::search::Target;
use crate::args::Format;
use crate::session::Session;
use crate::ui::escape::shown;
use crate::ui::style::Style;

#[derive(Args, Clone, Debug)]
pub(super) struct ShapeArgs {
    /// Write only the paths of files with lines that match.
    #[arg(short = 'l', long, conflicts_with_all = ["files_without_match", "count", "only_matching"])]
    files_with_matches: bool,

    /// Write only the paths of files without lines that match.
    #[arg(long, conflicts_with_all = ["count", "only_matching"])]
    files_without_match: bool,

    /// Write how many lines match, for each file that has any.
    #[arg(short, long, conflicts_with = "only_matching")]
    count: bool,

    /// Write only what matches, each on a line of its own. (-o is --output, as everywhere.)
    #[arg(long)]
    only_matching: bool,

    /// Write this in the place of what matches, where `$1` and `$name` stand for groups of the pattern. Files stay as they are.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["files_with_matches", "files_without_match", "count", "invert_match"])]
    replace: Option<String>,

    /// Write the numbers of lines, which is the default on a terminal.
    #[arg(short = 'n', long, overrides_with = "no_line_number")]
    line_number: bool,

    /// Write no numbers of lines.
    #[arg(short = 'N', long)]
    no_line_number: bool,

    /// Write paths, also where one file alone was named.
    #[arg(short = 'H', long, overrides_with = "no_filename")]
    with_filename: bool,

    /// Write no paths.
    #[arg(short = 'I', long)]
    no_filename: bool,

    /// Write each path above its lines, which is the default on a terminal.
    #[arg(long, overrides_with = "no_heading")]
    heading: bool,

    /// Write the path before each line.
    #[arg(long)]
    no_heading: bool,

    /// With -l and --files-without-match, end each path with a NUL byte, and write it as it is.
    #[arg(short = '0', long)]
    null: bool,
}

impl ShapeArgs {
    /// Whether paths are what is asked for, which `--quiet` leaves alone.
    pub(super) fn names_files(&self) -> bool {
        self.files_with_matches || self.files_without_match || self.count
    }
}

/// How lines look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    args: ShapeArgs,
    style: Style,
    /// Text is written, not JSON and not tables.
    pub(super) for_people: bool,
    /// Tables are written, with a row for each place if those alone are asked for.
    pub(super) rows_of_parts: bool,
    /// One line is enough to know what is asked.
    silent: bool,
    terminal: bool,
    numbers: bool,
    names: bool,
    headings: bool,
    /// Lines around those that match are shown.
    pub(super) context: bool,
}

impl Look {
    /// `several` says that there may be lines of more than one file.
    pub(super) fn new(args: &ShapeArgs, session: &Session, several: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let names = args.with_filename || (several && !args.no_filename);
        Self {
            args: args.clone(),
            style: session.style,
            for_people: session.options.output == Format::Text,
            rows_of_parts: args.only_matching && !session.options.output.is_json(),
            silent: session.is_terse() && !args.names_files(),
            terminal,
            numbers: args.line_number || (terminal && !args.no_line_number),
            names,
            headings: names && (args.heading || (terminal && !args.no_heading)),
            context: false,
        }
    }

    /// Whether lines are told, rather than files.
    pub(super) fn shows_lines(&self) -> bool {
        !self.args.names_files() && !self.silent
    }

    /// Whether a file need not be searched further when one line is found.
    pub(super) fn one_is_enough(&self) -> bool {
        self.silent || self.args.files_with_matches || self.args.files_without_match
    }

    /// Whether paths alone are what is asked for.
    pub(super) fn wants_names(&self) -> bool {
        self.args.files_without_match
    }

    /// Whether a file with so many lines that match is told about.
    pub(super) fn names(&self, lines: u64) -> bool {
        match &self.args {
            args if args.files_without_match => lines == 0,
            args => args.names_files() && lines > 0,
        }
    }

    /// Whether it matters where in a line the pattern matches.
    pub(super) fn marks(&self) -> bool {
        self.style.colored || self.args.only_matching || self.args.replace.is_some()
    }

    /// What is written in the place of what matches.
    pub(super) fn replacement(&self) -> Option<Vec<u8>> {
        self.args.replace.as_ref().map(|text| text.as_bytes().to_vec())
    }

    /// What a file is told about by.
    pub(super) fn file(&self, target: &Target, lines: u64) -> Vec<u8> {
        let name = self.style.path(&target.shown);
        match &self.args {
            args if args.count && !self.names => format!("{lines}\n").into_bytes(),
            args if args.count => format!("{name}:{lines}\n").into_bytes(),
            args if args.null => [&target.raw, &b"\0"[..]].concat(),
            _ => format!("{name}\n").into_bytes(),
        }
    }

    /// What stands between the lines of two files.
    pub(super) fn between_files(&self) -> &'static str {
        match self {
            Self { headings: true, .. } => "\n",
            Self { context: true, .. } => "--\n",
            _ => "",
        }
    }

    /// The path above the lines of a file, if that is wanted.
    pub(super) fn heading(&self, name: &str, text: &mut Vec<u8>) {
        if self.headings {
            text.extend_from_slice(format!("{}\n", self.style.path(name)).as_bytes());
        }
    }

    /// A line; with `--only-matching` one for each place.
    pub(super) fn line(
        &self,
        name: &str,
        kind: LineKind,
        number: Option<u64>,
        line: &[u8],
        places: &[Range<usize>],
        text: &mut Vec<u8>,
    ) {
        let sign = if kind == LineKind::Context { '-' } else { ':' };
        let prefix = self.prefix(name, number, sign);
        if self.args.only_matching {
            for place in places.iter().filter(|place| !place.is_empty()) {
                text.extend_from_slice(prefix.as_bytes());
                self.marked(&line[place.clone()], text);
                text.push(b'\n');
            }
            return;
        }
        text.extend_from_slice(prefix.as_bytes());
        let mut at = 0;
        for place in places.iter().filter(|place| self.style.colored && !place.is_empty()) {
            self.plain(&line[at..place.start], text);
            self.marked(&line[place.clone()], text);
            at = place.end;
        }
        self.plain(&line[at..], text);
        text.push(b'\n');
    }

    /// That the rest of a file is no text.
    pub(super) fn binary(&self, name: &str, offset: u64) -> String {
        let name = if self.names { format!("{}: ", self.style.path(name)) } else { String::new() };
        format!("{name}binary file matches (a NUL byte is at {offset})\n")
    }

    fn prefix(&self, name: &str, number: Option<u64>, sign: char) -> String {
        let name =
            if self.names && !self.headings { format!("{}{sign}", self.style.path(name)) } else { String::new() };
        match number.filter(|_| self.numbers) {
            Some(number) => format!("{name}{}{sign}", self.style.number(&number.to_string())),
            None => name,
        }
    }

    fn marked(&self, part: &[u8], text: &mut Vec<u8>) {
        if !self.style.colored {
            return self.plain(part, text);
        }
        let (begin, end) = self.style.around_match();
        text.extend_from_slice(begin.as_bytes());
        self.plain(part, text);
        text.extend_from_slice(end.as_bytes());
    }

    /// What a file holds: as it is, but on a terminal nothing that could control it.
    fn plain(&self, part: &[u8], text: &mut Vec<u8>) {
        if !self.terminal {
            return text.extend_from_slice(part);
        }
        let parts: Vec<String> = part.split(|byte| *byte == b'\t').map(shown).collect();
        text.extend_from_slice(parts.join("\t").as_bytes());
    }
}
