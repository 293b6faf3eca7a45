//! `blob man`.

mod reference;
mod sections;

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use serde::Serialize;

use crate::args;
use crate::error::Failure;
use crate::session::Session;
use crate::ui::escape::shown;
use crate::ui::near::nearest;
use crate::ui::size::count;

const EXAMPLES: &str = "\
Examples:
  blob man | man -l -
  blob man cache clear | man -l -            the page of a command
  blob man --dir ~/.local/share/man/man1     a page for each command";

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
    std::fs::create_dir_all(&dir).map_err(|error| failed(&error))?;
    let written = write_all(&command, "blob", &dir).map_err(|error| failed(&error))?;
    let written = Written { directory: dir.display().to_string(), pages: written };
    let text = || format!("Wrote {} to {}\n", count(written.pages, "page"), shown(written.directory.as_bytes()));
    session.report(&written, text).await
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

/// Writes the page of `command`, which is called `name`, and those of the commands below it.
fn write_all(command: &Command, name: &str, dir: &Path) -> std::io::Result<u64> {
    std::fs::write(dir.join(format!("{name}.1")), page(command, name)?)?;
    let mut written = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        written += write_all(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(written)
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Written>("man")]
}
