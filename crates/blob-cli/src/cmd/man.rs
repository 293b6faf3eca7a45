//! `blob man`.

mod reference;
mod sections;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use serde::Serialize;

use crate::args;
use crate::error::Failure;
use crate::plan::takes_files;
use crate::session::Session;
use crate::ui::escape::shown;
use crate::ui::near::nearest;
use crate::ui::size::count;

const EXAMPLES: &str = "\
Examples:
  blob man | man -l -
  blob man cache clear | man -l -            the page of a command
  blob man --dir ~/.local/share/man/man1     a page for each command
  blob man --dir man --dry-run               which files these are";

/// Write manual pages: one to standard output, or all to a directory.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// The words of the command whose page is written, rather than the main one.
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,

    /// Write a page for each command to this directory, which is made if it does not exist.
    #[arg(short, long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,

    /// Only say which pages would be written.
    #[arg(long, requires = "dir")]
    dry_run: bool,

    /// Write the reference of all commands and options in Markdown instead.
    #[arg(long, conflicts_with_all = ["command", "dir"])]
    markdown: bool,
}

/// Manual pages that were written.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Written {
    /// Where they are.
    directory: String,
    /// How many there are.
    pages: u64,
    /// Whether nothing was written, only looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// What would be written, by a plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plan: Vec<Step>,
}

/// A page that would be written.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    /// `create`, `replace`, or `keep` if the page is there as it is.
    action: &'static str,
    /// The name of the file.
    name: String,
}

pub(crate) async fn run(args: ManArgs, session: &Session) -> Result<(), Failure> {
    let mut command = whole(args::command()).disable_help_subcommand(true);
    command.build();
    let Some(dir) = args.dir else {
        if args.markdown {
            return session.print(reference::markdown(&command)).await;
        }
        let (command, name) = find(&command, &args.command)?;
        let page = page(command, &name).map_err(|error| Failure::io("making the manual page", &error))?;
        return session.print(page).await;
    };
    let failed = |error: &std::io::Error| Failure::io(format!("writing manual pages to {}", dir.display()), error);
    let mut pages = Vec::new();
    all(&command, "blob", &mut pages).map_err(|error| failed(&error))?;
    let plan = if args.dry_run {
        plan(&dir, &pages).map_err(|error| failed(&error))?
    } else {
        write(&dir, &pages).map_err(|error| failed(&error))?;
        Vec::new()
    };
    let written =
        Written { directory: dir.display().to_string(), pages: pages.len() as u64, dry_run: args.dry_run, plan };
    session.outcome(args.dry_run, &written, || text(&written)).await
}

fn text(written: &Written) -> String {
    let verb = if written.dry_run { "Would write" } else { "Wrote" };
    let (pages, dir) = (count(written.pages, "page"), shown(written.directory.as_bytes()));
    let steps = written.plan.iter().map(|step| format!("  {} {}\n", step.action, step.name));
    format!("{verb} {pages} to {dir}\n{}", steps.collect::<String>())
}

/// `command` with everything that its short help leaves out: a page has room.
fn whole(command: Command) -> Command {
    let mut command = command.mut_args(|arg| arg.hide_short_help(false));
    for below in command.get_subcommands_mut() {
        *below = whole(std::mem::take(below));
    }
    command
}

/// The command of these words, and what its page is called.
fn find<'a>(main: &'a Command, words: &[String]) -> Result<(&'a Command, String), Failure> {
    let (mut found, mut name) = (main, "blob".to_owned());
    for word in words {
        let Some(below) = found.find_subcommand(word) else {
            let failure = Failure::usage(format!("there is no command {:?}", words.join(" ")));
            let near = nearest(word, found.get_subcommands().map(Command::get_name));
            return Err(match near {
                Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                None if word.contains('/') => failure.with_hint(format!("--dir {word} writes all pages there")),
                None => failure.with_hint("`blob --help` lists the commands"),
            });
        };
        name = format!("{name}-{}", below.get_name());
        found = below;
    }
    Ok((found, name))
}

/// The page of a command, which is called `name`.
fn page(command: &Command, name: &str) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("blob ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name).manual("blob manual").source(source);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(sections::synopsis(command, name).as_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(sections::of(command, name).as_bytes());
    Ok(page)
}

/// The names of files and the pages of `command`, which is called `name`, and of the commands below it.
fn all(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    pages.push((format!("{name}.1"), page(command, name)?));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        all(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

fn write(dir: &Path, pages: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    pages.iter().try_for_each(|(name, page)| std::fs::write(dir.join(name), page))
}

/// What [`write`] would do.
fn plan(dir: &Path, pages: &[(String, Vec<u8>)]) -> std::io::Result<Vec<Step>> {
    if std::fs::metadata(dir).is_ok_and(|found| !found.is_dir()) {
        return Err(rustix::io::Errno::EXIST.into());
    }
    // The nearest directory that is there has to take what is made.
    let there = dir.ancestors().find(|above| above.exists()).filter(|above| !above.as_os_str().is_empty());
    takes_files(there.unwrap_or(Path::new(".")))?;
    let step = |(name, page): &(String, Vec<u8>)| {
        let action = match std::fs::read(dir.join(name)) {
            Ok(there) if there == *page => "keep",
            Ok(_) => "replace",
            Err(error) if error.kind() == ErrorKind::NotFound => "create",
            Err(error) => return Err(error),
        };
        Ok(Step { action, name: name.clone() })
    };
    pages.iter().map(step).collect()
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Written>("man")]
}
