//! `cargo xtask demo`: the main job from end to end, on this machine alone.
//!
//! Every command is shown as it would be typed, with its output. The end is a comparison, so the demonstration fails when
//! something does not work.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::compare;
use crate::process::isolate;
use crate::scratch::{Scratch, copy_tree};
use crate::server::{Server, blob};
use crate::workspace::root;

/// The file that is read lazily.
const FILE: &str = "docs/introduction.md";

/// How many differences are printed.
const SHOWN: usize = 20;

/// Runs the demonstration in a temporary directory, which is removed at the end, also after a failure.
pub(crate) fn run() -> Outcome {
    let binary = blob(false)?;
    let scratch = Scratch::new(&std::env::temp_dir(), "demo")?;
    let demo = Demo { binary, place: scratch.path().to_owned() };
    demo.prepare()?;
    println!("In a temporary directory with a copy of this repository's sources as `project`.\n");

    let mut serve = demo.command(["serve", "--listen", "127.0.0.1:0", "--root", "registry"]);
    println!("$ blob serve --listen 127.0.0.1:0 --root registry &");
    let server = Server::start(&mut serve)?;
    println!("listening on http://{}\n", server.addr);

    let reference = format!("{}/demo/project:v1", server.addr);
    demo.show(["push", &reference, "project"])?;
    demo.show(["ls", &reference])?;
    demo.show(["tree", "-L", "2", &reference])?;
    demo.read_lazily(&reference)?;
    let stable = format!("{}/demo/project:stable", server.addr);
    demo.show(["tag", &reference, &stable])?;
    demo.show(["inspect", &stable])?;
    demo.show(["pull", &stable, "copy"])?;
    drop(server);
    demo.compare()
}

struct Demo {
    binary: PathBuf,
    place: PathBuf,
}

impl Demo {
    /// Lays out `project`: sources and documents, and what is easy to lose: an executable, a link, an empty directory.
    fn prepare(&self) -> Outcome {
        let project = self.place.join("project");
        let skip = |name: &str| name == "target" || name == "fixtures" || name == "book";
        for folder in ["crates", "docs"] {
            copy_tree(&root().join(folder), &project.join(folder), &skip)?;
        }
        let fail = |error: std::io::Error| format!("{}: {error}", project.display());
        fs::create_dir(self.place.join("home")).map_err(fail)?;
        fs::create_dir(project.join("empty")).map_err(fail)?;
        fs::write(project.join("run.sh"), "#!/bin/sh\necho hello\n").map_err(fail)?;
        fs::set_permissions(project.join("run.sh"), fs::Permissions::from_mode(0o755)).map_err(fail)?;
        symlink(FILE, project.join("start-here")).map_err(fail)
    }

    /// `blob` in the temporary directory, with an empty home: no configuration and no credentials of the user's.
    fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.place).args(args);
        isolate(&mut command, &self.place.join("home"));
        command
    }

    /// Runs a command and shows it with everything it writes.
    fn show<const N: usize>(&self, args: [&str; N]) -> Result<Shown, String> {
        println!("$ blob {}", args.join(" "));
        let output = self
            .command(args)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} could not be started: {error}", self.binary.display()))?;
        let mut out = std::io::stdout().lock();
        for bytes in [&output.stdout, &output.stderr] {
            out.write_all(bytes).map_err(|error| format!("writing to standard output: {error}"))?;
        }
        println!();
        if !output.status.success() {
            return Err(format!("`blob {}` ended with {}", args.join(" "), output.status));
        }
        Ok(Shown { stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    /// Reads one file and checks that it is that file, and that far less than the archive was fetched.
    fn read_lazily(&self, reference: &str) -> Outcome {
        let shown = self.show(["cat", "--stats", reference, FILE])?;
        let file = self.place.join("project").join(FILE);
        if shown.stdout != fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))? {
            return Err(format!("`blob cat` did not write the bytes of {FILE}"));
        }
        let (fetched, total) = stats(&shown.stderr)
            .ok_or_else(|| format!("expected `N requests, X of Y bytes`, got {:?}", shown.stderr))?;
        if fetched >= total {
            Err(format!("{fetched} of {total} bytes were fetched: that was not lazy"))
        } else {
            Ok(())
        }
    }

    fn compare(&self) -> Outcome {
        let (project, copy) = (self.place.join("project"), self.place.join("copy"));
        let differences = compare::differences(&project, &copy)?;
        if !differences.is_empty() {
            let first = differences[..differences.len().min(SHOWN)].join("\n");
            return Err(format!("`project` and `copy` differ in {} places, among them:\n{first}", differences.len()));
        }
        let (files, bytes) = compare::totals(&copy)?;
        println!(
            "`project` and `copy` are equal: {files} files, {bytes} bytes, with modes, times, links and empty directories."
        );
        Ok(())
    }
}

struct Shown {
    stdout: Vec<u8>,
    stderr: String,
}

/// The two numbers of `N requests, X of Y bytes`, which may stand anywhere in the text.
pub(crate) fn stats(text: &str) -> Option<(u64, u64)> {
    let line =
        text.lines().find(|line| line.contains(" request") && line.contains(" of ") && line.contains(" bytes"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = words.iter().position(|word| *word == "of")?;
    let number = |word: &str| word.replace([',', '_'], "").parse().ok();
    Some((number(words.get(of.checked_sub(1)?)?)?, number(words.get(of + 1)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_figures_is_understood() {
        let cases = [
            ("3 requests, 1234 of 98765 bytes\n", Some((1234, 98_765))),
            ("note\n1 request, 1,234 of 98,765 bytes", Some((1234, 98_765))),
            ("3 requests", None),
            ("", None),
        ];
        for (text, expect) in cases {
            assert_eq!(stats(text), expect, "{text}");
        }
    }
}
