//! `blob find`.

use blob::core::{Node, path};
use clap::{Args, ValueEnum};
use globset::{Glob, GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use regex::bytes::Regex;
use serde::Serialize;

use super::node::{self, Facts};
use super::{local, missing};
use crate::args::{Caching, Format};
use crate::error::Failure;
use crate::filter::Patterns;
use crate::session::Session;
use crate::trust::TrustArgs;
use crate::ui::json;
use crate::ui::size;
use crate::ui::table::{Align, Cell, Table};
use crate::ui::time;

const EXAMPLES: &str = "\
Examples:
  blob find localhost:5000/team/assets:v1 --name '*.png' --size +1M
  blob find localhost:5000/team/assets:v1 images --type f --newer 2026-01-31
  blob find ghcr.io/org/data:1.0 --regex '(^|/)v[0-9]+/' --type f,l --mode /111
  blob find -0 oci:./layout:v1 --type l | xargs -0 -n1 echo

All conditions must hold. No file data is fetched.";

/// Find files in an archive by name, size, time or kind.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FindArgs {
    /// The archive.
    #[arg(value_name = "REF")]
    reference: String,

    /// Where to look; everywhere by default.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    /// The last part of the path matches; `*` and `?` stand for any characters. One of several must match.
    #[arg(short, long, value_name = "GLOB", value_parser = glob)]
    name: Vec<Glob>,

    /// As --name, case apart.
    #[arg(long, value_name = "GLOB", value_parser = glob_any_case)]
    iname: Vec<Glob>,

    /// The whole path matches this regular expression somewhere; ^ and $ bind it to the ends.
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    regex: Vec<Regex>,

    /// What it is: f a file, d a directory, l a symbolic link; several with commas between.
    #[arg(short, long = "type", value_name = "TYPE", value_delimiter = ',')]
    kind: Vec<KindArg>,

    /// The permissions in octal: 644 exactly, -444 all of these, /111 any of these.
    #[arg(long, value_name = "MODE", value_parser = mode, allow_hyphen_values = true)]
    mode: Option<Mode>,

    /// The size in bytes: +1M at least, -10K at most, 512 exactly; may be given twice.
    #[arg(short, long, value_name = "SIZE", value_parser = bound, allow_hyphen_values = true)]
    size: Vec<Bound>,

    /// Modified after this time: a date, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    newer: Option<i64>,

    /// Modified before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    older: Option<i64>,

    /// Executable by anybody.
    #[arg(long)]
    executable: bool,

    /// The content has this digest, or one that begins like it.
    #[arg(long, visible_alias = "hash", value_name = "DIGEST", value_parser = beginning)]
    digest: Option<String>,

    /// End each path with a NUL byte, and write it as it is.
    #[arg(short = '0', long, conflicts_with = "long")]
    null: bool,

    /// Show modes, sizes and times.
    #[arg(short, long)]
    long: bool,

    #[command(flatten)]
    patterns: Patterns,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// Files.
    #[value(name = "f", alias = "file")]
    File,
    /// Directories.
    #[value(name = "d", aliases = ["dir", "directory"])]
    Directory,
    /// Symbolic links.
    #[value(name = "l", alias = "symlink")]
    Symlink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast(u64),
    AtMost(u64),
    Exactly(u64),
}

impl Bound {
    fn holds(self, size: u64) -> bool {
        match self {
            Self::AtLeast(bound) => size >= bound,
            Self::AtMost(bound) => size <= bound,
            Self::Exactly(bound) => size == bound,
        }
    }
}

/// What is asked of permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Exactly(u32),
    All(u32),
    Any(u32),
}

impl Mode {
    fn holds(self, mode: u32) -> bool {
        let mode = mode & 0o777;
        match self {
            Self::Exactly(wanted) => mode == wanted,
            Self::All(wanted) => mode & wanted == wanted,
            // As find(1) has it: who asks for none of them gets everything.
            Self::Any(wanted) => wanted == 0 || mode & wanted != 0,
        }
    }
}

fn mode(typed: &str) -> Result<Mode, String> {
    let octal = |digits: &str| {
        let digits = digits.strip_prefix("0o").unwrap_or(digits);
        let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o777 && !digits.starts_with('+'));
        bits.ok_or_else(|| format!("{typed:?} is no mode: expected octal digits, as in 644, -111 or /222"))
    };
    Ok(match typed.split_at_checked(1) {
        Some(("-", bits)) => Mode::All(octal(bits)?),
        Some(("/", bits)) => Mode::Any(octal(bits)?),
        _ => Mode::Exactly(octal(typed)?),
    })
}

fn regex(typed: &str) -> Result<Regex, String> {
    // The cause of a refusal comes on several lines, the last of which says it.
    Regex::new(typed).map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
}

fn glob(typed: &str) -> Result<Glob, String> {
    Glob::new(typed).map_err(|error| error.to_string())
}

fn glob_any_case(typed: &str) -> Result<Glob, String> {
    GlobBuilder::new(typed).case_insensitive(true).build().map_err(|error| error.to_string())
}

fn bound(typed: &str) -> Result<Bound, String> {
    Ok(match typed.split_at_checked(1) {
        Some(("+", size)) => Bound::AtLeast(size::parse(size)?),
        Some(("-", size)) => Bound::AtMost(size::parse(size)?),
        _ => Bound::Exactly(size::parse(typed)?),
    })
}

/// `2026-01-31`, at midnight in UTC, or a whole RFC 3339 time; nanoseconds since 1970.
fn moment(typed: &str) -> Result<i64, String> {
    let whole = if typed.contains('T') { typed.to_owned() } else { format!("{typed}T00:00:00Z") };
    let time: Option<Timestamp> = whole.parse().ok();
    let nanoseconds = time.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    nanoseconds.ok_or_else(|| format!("{typed:?} is no time: expected 2026-01-31 or 2026-01-31T12:00:00Z"))
}

/// The beginning of a digest, with or without its algorithm.
pub(super) fn beginning(typed: &str) -> Result<String, String> {
    let typed = typed.to_ascii_lowercase();
    let hex = typed.strip_prefix("sha256:").unwrap_or(&typed);
    let fits =
        (1..=64).contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if fits { Ok(typed) } else { Err("expected 1 to 64 digits 0-9 and a-f, as in sha256:2cf24d".into()) }
}

/// What was found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Report {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// How many were found.
    count: usize,
    /// What was found, by path.
    entries: Vec<Facts>,
}

/// The conditions, ready to be asked.
struct Conditions<'a> {
    args: &'a FindArgs,
    names: Vec<GlobMatcher>,
}

impl Conditions<'_> {
    fn hold(&self, node: &Node<'_>) -> bool {
        let args = self.args;
        let name = local::name_of(node.path());
        let kind = match node {
            Node::File(_) => KindArg::File,
            Node::Symlink(_) => KindArg::Symlink,
            Node::Directory(_) | Node::EmptyDir(_) => KindArg::Directory,
        };
        let kind = args.kind.is_empty() || args.kind.contains(&kind);
        let mode = || match node {
            Node::File(file) => Some(file.mode()),
            Node::EmptyDir(dir) => Some(dir.mode()),
            Node::Symlink(_) | Node::Directory(_) => None,
        };
        // What has no size or time of its own does not fit conditions about them.
        let sized = || matches!(node, Node::File(_)) && args.size.iter().all(|bound| bound.holds(node::size(node)));
        let time = |fits: &dyn Fn(i64) -> bool| node::mtime_ns(node).is_some_and(fits);
        kind && (self.names.is_empty() || self.names.iter().any(|glob| glob.is_match(name)))
            && (args.regex.is_empty() || args.regex.iter().any(|regex| regex.is_match(node.path())))
            && args.mode.is_none_or(|wanted| mode().is_some_and(|mode| wanted.holds(mode)))
            && (args.size.is_empty() || sized())
            && args.newer.is_none_or(|bound| time(&|time| time > bound))
            && args.older.is_none_or(|bound| time(&|time| time < bound))
            && (!args.executable || matches!(node, Node::File(file) if file.mode() & 0o111 != 0))
            && args.digest.as_ref().is_none_or(|wanted| {
                node::digest(node).map(|digest| digest.to_string()).is_some_and(|digest| {
                    digest.starts_with(wanted)
                        || digest.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(wanted))
                })
            })
    }
}

pub(crate) async fn run(args: FindArgs, session: &Session) -> Result<(), Failure> {
    let location = session.location(&args.reference)?;
    let client = session.reading(&[&location], &args.trust).await?;
    let archive = session.open(&client, &location, args.caching).await?;
    Session::log_traffic(&client);
    let index = archive.index();
    let names = args.name.iter().chain(&args.iname).map(Glob::compile_matcher).collect();
    let conditions = Conditions { args: &args, names };
    let filter = args.patterns.filter();
    let mut found: Vec<Node<'_>> = Vec::new();
    let everywhere = [String::new()];
    for typed in if args.paths.is_empty() { &everywhere[..] } else { &args.paths } {
        let start = index.lookup(path::normalize(typed.as_bytes()));
        let start = start.ok_or_else(|| missing::failure("path not found in archive", index, typed))?;
        let mut nodes: Vec<Node<'_>> = match start {
            Node::Directory(dir) => {
                // As find(1), which has what was named too; the archive itself has no name.
                let itself = (!dir.path().is_empty()).then_some(Node::Directory(dir));
                dir.nodes().chain(dir.directories().map(Node::Directory)).chain(itself).collect()
            }
            other => vec![other],
        };
        nodes.retain(|node| filter.takes_node(node) && conditions.hold(node));
        found.append(&mut nodes);
    }
    found.sort_by(|a, b| a.path().cmp(b.path()));
    found.dedup_by(|a, b| a.path() == b.path());
    session.print(render(&args, session, location.to_string(), &found)).await
}

fn render(args: &FindArgs, session: &Session, reference: String, found: &[Node<'_>]) -> Vec<u8> {
    let output = session.options.output;
    if output == Format::Jsonl {
        return found.iter().map(|node| json::line(&Facts::of(node))).collect::<String>().into_bytes();
    }
    if output == Format::Json {
        let entries = found.iter().map(Facts::of).collect();
        return json::document(&Report { r#ref: reference, count: found.len(), entries }).into_bytes();
    }
    if args.null {
        return found.iter().flat_map(|node| [node.path(), b"\0"].concat()).collect();
    }
    let long = args.long || output == Format::Table;
    let mut columns = vec![("PATH", Align::Left)];
    if long {
        columns = vec![("MODE", Align::Left), ("SIZE", Align::Right), ("MODIFIED", Align::Left), ("PATH", Align::Left)];
    }
    let mut table = Table::new(columns);
    for found in found {
        let name = node::cell(found.path(), found, session.style);
        if long {
            let time = node::mtime_ns(found).map_or_else(String::new, time::short);
            let size = node::size(found).to_string();
            table.row(vec![Cell::new(node::mode_text(found)), Cell::new(size), Cell::new(time), name]);
        } else {
            table.row(vec![name]);
        }
    }
    table.render(output).into_bytes()
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::{document, line};
    vec![document::<Report>("find"), line::<Facts>("find-line")]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_bounds() {
        for (typed, size, expected) in [
            ("+1K", 1024, true),
            ("+1K", 1023, false),
            ("-1K", 1024, true),
            ("-1K", 1025, false),
            ("512", 512, true),
            ("512", 513, false),
        ] {
            assert_eq!(bound(typed).unwrap().holds(size), expected, "{typed} {size}");
        }
        assert!(bound("big").is_err());
        assert!(bound("").is_err());
    }

    #[test]
    fn modes_are_exact_all_or_any() {
        for (typed, bits, expected) in [
            ("644", 0o644, true),
            ("0644", 0o645, false),
            ("-440", 0o644, true),
            ("-550", 0o644, false),
            ("/111", 0o645, true),
            ("/111", 0o644, false),
            ("/000", 0o644, true),
        ] {
            assert_eq!(mode(typed).unwrap().holds(bits), expected, "{typed} {bits:o}");
        }
        for wrong in ["", "-", "888", "1000", "u+x", "-+1"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_dates_or_whole() {
        assert_eq!(moment("1970-01-02").unwrap(), 86_400_000_000_000);
        assert_eq!(moment("1970-01-01T00:00:01Z").unwrap(), 1_000_000_000);
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn digests_may_be_cut_short() {
        for (typed, fits) in [
            ("sha256:2cf24d", true),
            ("2cf2", true),
            ("", false),
            ("sha256:", false),
            ("2CF2", true),
            ("sha512:2c", false),
        ] {
            assert_eq!(beginning(typed).is_ok(), fits, "{typed}");
        }
    }
}
