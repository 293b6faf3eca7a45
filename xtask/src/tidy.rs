//! `cargo xtask tidy`: the rules of this repository that neither the compiler nor clippy knows.
//!
//! Each check is a function from the files to findings, with a test of its own that shows it can fail.

mod code;
mod documents;
mod edges;
mod generated;
mod lexer;
mod lock;
mod size;
mod workflows;
mod wrappers;

pub(crate) use generated::header;

use std::fmt;

use crate::Outcome;
use crate::workspace::{Workspace, root};

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

type Check = fn(&Workspace) -> Vec<Finding>;

const CHECKS: [(&str, Check); 15] = [
    ("crate edges", edges::crates),
    ("edges inside blob-core", edges::rooms_of_core),
    ("test support is never published", edges::not_published),
    ("workspace lints", edges::lints),
    ("module documentation", documents::modules),
    ("ARCHITECTURE.md names every crate", documents::architecture),
    ("crate READMEs", documents::readmes),
    ("no mod.rs", documents::no_mod_rs),
    ("file sizes", size::files),
    ("function sizes", size::functions),
    ("forbidden calls", code::forbidden_calls),
    ("lock file sources", lock::sources),
    ("wrappers forward everything", wrappers::deny_missing_methods),
    ("generated code", generated::up_to_date),
    ("workflows", workflows::safe),
];

/// Runs every check and prints the findings.
pub(crate) fn run() -> Outcome {
    let workspace = Workspace::load(&root())?;
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|(_, check)| check(&workspace)).collect();
    findings.sort();
    findings.dedup();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        let files = workspace.sources().count();
        println!(
            "tidy: {} checks, {} crates, {files} source files, nothing found",
            CHECKS.len(),
            workspace.crates().len()
        );
        Ok(())
    } else {
        Err(format!("tidy: {} finding(s)", findings.len()))
    }
}
