//! Where an export is written: a file that gets its name when it is complete, or something that stays what it is.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Failure, Kind};
use crate::plan;

/// A place that can be written to, as far as that shows before.
pub(super) struct Target<'a> {
    file: &'a Path,
    found: Found,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    File,
    /// A device or a pipe, which stays what it is.
    Other,
}

/// What is being written.
pub(super) struct Draft<'a> {
    target: &'a Target<'a>,
    kind: Kept,
}

enum Kept {
    Temporary(NamedTempFile),
    AsItIs(File),
}

impl<'a> Target<'a> {
    /// Looks at what is at `file`.
    ///
    /// # Errors
    /// There is no directory for it, or one that takes no files, or one in its place.
    pub(super) fn find(file: &'a Path) -> Result<Self, Failure> {
        let dir = Self::dir(file);
        if !dir.is_dir() {
            let message = format!("writing {}: there is no directory {}", file.display(), dir.display());
            return Err(Failure::not_found(message).with_hint("make it first"));
        }
        let found = match std::fs::metadata(file) {
            Ok(found) if found.is_dir() => return Err(Self::is_directory(file)),
            Ok(found) if found.is_file() => Found::File,
            Ok(_) => Found::Other,
            Err(_) if ends_in_slash(file) => return Err(Self::is_directory(file)),
            Err(_) => Found::Nothing,
        };
        if found != Found::Other {
            plan::takes_files(dir).map_err(|error| Failure::io(format!("writing {}", file.display()), &error))?;
        }
        Ok(Self { file, found })
    }

    fn is_directory(file: &Path) -> Failure {
        let message = format!("writing {}: that is a directory, expected the name of a file", file.display());
        Failure::new(Kind::General, message)
            .with_hint(format!("name one in it, such as {}", file.join("export.tar").display()))
    }

    fn dir(file: &Path) -> &Path {
        file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    pub(super) fn file(&self) -> &Path {
        self.file
    }

    /// What becomes of it: `create`, `replace` or `write`.
    pub(super) fn action(&self) -> &'static str {
        match self.found {
            Found::Nothing => "create",
            Found::File => "replace",
            Found::Other => "write",
        }
    }

    /// Begins to write.
    ///
    /// # Errors
    /// The file cannot be made or opened.
    pub(super) fn draft(&'a self) -> Result<Draft<'a>, Failure> {
        let made = if self.found == Found::Other {
            File::options().write(true).open(self.file).map(Kept::AsItIs)
        } else {
            // The name that it has until it is complete says nothing to anybody.
            let temporary = tempfile::Builder::new().prefix(".blob-export-").tempfile_in(Self::dir(self.file));
            temporary.map(Kept::Temporary).map_err(|error| io::Error::from(error.kind()))
        };
        Ok(Draft { target: self, kind: made.map_err(|error| self.failed(&error))? })
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::io(format!("writing {}", self.file.display()), error)
    }
}

impl Draft<'_> {
    /// Where the bytes go.
    ///
    /// # Errors
    /// There are too many open files.
    pub(super) fn writer(&self) -> Result<tokio::fs::File, Failure> {
        let file = match &self.kind {
            Kept::Temporary(temporary) => temporary.as_file(),
            Kept::AsItIs(file) => file,
        };
        Ok(tokio::fs::File::from_std(file.try_clone().map_err(|error| self.target.failed(&error))?))
    }

    /// Gives it its name. A draft that is dropped is gone.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub(super) fn keep(self) -> Result<(), Failure> {
        let Kept::Temporary(temporary) = self.kind else { return Ok(()) };
        set_mode(temporary.as_file()).map_err(|error| self.target.failed(&error))?;
        temporary.persist(self.target.file).map_err(|error| self.target.failed(&error.error))?;
        Ok(())
    }
}

fn ends_in_slash(file: &Path) -> bool {
    file.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Temporary files are for their owner alone; others are not.
fn set_mode(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
