//! An archive as files: index and data side by side, and the manifest with them if wanted.
//!
//! Everything is written to temporary files first. Only when all are complete do they take their names, so an archive
//! that is there already stays as it is until then, and comes back if one of the names cannot be taken.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::CreateError;
use super::options::CreateOptions;
use super::{Created, create};

/// How [`create_blob`] makes an archive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreateBlobOptions {
    /// How the archive is made.
    pub create: CreateOptions,
    /// The name of the index file: `index.blob` by default.
    pub index_name: String,
    /// The name of the data file: `data.blob` by default.
    pub data_name: String,
    /// The manifest to be written beside them: none by default.
    pub manifest: Option<ManifestOutput>,
    /// Whether files and directory are on the disk when the call returns: yes by default.
    pub fsync: bool,
    /// Whether files that have the names are replaced: yes by default. Else they are an error, also those that came
    /// meanwhile.
    pub replace: bool,
}

impl Default for CreateBlobOptions {
    fn default() -> Self {
        Self {
            create: CreateOptions::default(),
            index_name: "index.blob".into(),
            data_name: "data.blob".into(),
            manifest: None,
            fsync: true,
            replace: true,
        }
    }
}

/// A manifest beside the archive.
#[derive(Clone)]
pub struct ManifestOutput {
    /// The name of its file.
    pub name: String,
    /// Makes its bytes from the finished archive.
    pub bytes: Arc<ManifestBytes>,
}

/// Makes the bytes of a manifest; this crate does not know their form.
type ManifestBytes = dyn Fn(&Created) -> Vec<u8> + Send + Sync;

impl fmt::Debug for ManifestOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestOutput").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Archives the directory `dir` to files in the directory `dest`, which is made if it is not there. It may lie within
/// `dir`: the archive does not contain itself, nor the one that it replaces.
///
/// The names are taken one after the other, the data file's first. A process that dies between two leaves a pair that
/// does not fit together, which opening it tells. Several calls for one `dest`, of several processes too, take their names
/// one call after the other.
///
/// # Errors
/// [`CreateError`]. What was in `dest` before is then still there, and nothing else.
pub fn create_blob(dir: &Path, dest: &Path, options: &CreateBlobOptions) -> Result<Created, CreateError> {
    check_names(options)?;
    // First: a mistyped source must not leave a destination behind.
    drop(super::open_root(dir)?);
    fs::create_dir_all(dest).map_err(output_error(dest, "create"))?;
    let mut data = Output::new(dest, &options.data_name)?;
    let mut outputs = vec![Output::new(dest, &options.index_name)?];
    if let Some(manifest) = &options.manifest {
        outputs.push(Output::new(dest, &manifest.name)?);
    }
    let mut create_options = options.create.clone();
    for output in outputs.iter().chain([&data]) {
        output.exclude(&mut create_options)?;
    }
    let created = create(dir, &mut data.file, &create_options).map_err(|error| data.name_error(error))?;
    outputs[0].write(created.index.as_bytes())?;
    if let Some(manifest) = &options.manifest {
        outputs[1].write(&(manifest.bytes)(&created))?;
    }
    outputs.insert(0, data);
    publish(outputs, dest, options)?;
    Ok(created)
}

fn check_names(options: &CreateBlobOptions) -> Result<(), CreateError> {
    let manifest = options.manifest.as_ref().map(|manifest| &manifest.name);
    let names: Vec<&String> = [&options.index_name, &options.data_name].into_iter().chain(manifest).collect();
    for (at, &name) in names.iter().enumerate() {
        let problem = if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            "it is not a file name"
        } else if names[..at].contains(&name) {
            "it is used twice"
        } else {
            continue;
        };
        return Err(CreateError::OutputName { name: name.clone(), problem });
    }
    Ok(())
}

/// Gives all files their names, or none.
fn publish(mut outputs: Vec<Output>, dest: &Path, options: &CreateBlobOptions) -> Result<(), CreateError> {
    let fsync = options.fsync;
    // Names of two archives must not mix. Where there are no locks, they are taken without.
    let turn = File::open(dest).ok();
    let _ = turn.as_ref().map(File::lock);
    if !options.replace {
        for output in &outputs {
            if output.path.symlink_metadata().is_ok() {
                return Err(output_error(&output.path, "replace")(io::ErrorKind::AlreadyExists.into()));
            }
        }
    }
    if fsync {
        for output in &outputs {
            output.file.sync_all().map_err(output_error(&output.path, "sync"))?;
        }
    }
    let named = outputs.iter_mut().try_for_each(Output::publish);
    if let Err(error) = named {
        outputs.iter_mut().rev().for_each(Output::take_back);
        return Err(error);
    }
    for output in &mut outputs {
        output.forget_old();
    }
    if fsync {
        let sync = File::open(dest).and_then(|dir| dir.sync_all());
        sync.map_err(output_error(dest, "sync"))?;
    }
    Ok(())
}

/// A file under a temporary name, which is removed when the value is dropped.
struct Output {
    /// The name it is to have.
    path: PathBuf,
    temp: PathBuf,
    file: File,
    state: State,
}

enum State {
    /// Under its temporary name.
    Temporary,
    /// Under its name; what had the name before has another one, if there was something and it could be had.
    Published { old: Option<PathBuf> },
    /// Under its name for good, or removed.
    Done,
}

impl Output {
    fn new(dest: &Path, name: &str) -> Result<Self, CreateError> {
        let path = dest.join(name);
        loop {
            let temp = temporary(dest, name, "tmp");
            match OpenOptions::new().write(true).create_new(true).open(&temp) {
                Ok(file) => return Ok(Self { path, temp, file, state: State::Temporary }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(output_error(&temp, "create")(error)),
            }
        }
    }

    /// Keeps this file, and what it is to replace, out of the archive.
    fn exclude(&self, options: &mut CreateOptions) -> Result<(), CreateError> {
        let own = self.file.metadata().map_err(output_error(&self.temp, "examine"))?;
        options.exclude_inodes.push((own.dev(), own.ino()));
        if let Ok(old) = fs::symlink_metadata(&self.path) {
            options.exclude_inodes.push((old.dev(), old.ino()));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CreateError> {
        self.file.write_all(bytes).map_err(output_error(&self.path, "write"))
    }

    /// Names the file where the writer that it is failed.
    fn name_error(&self, error: CreateError) -> CreateError {
        match error {
            CreateError::Write { source, .. } => output_error(&self.path, "write")(source),
            other => other,
        }
    }

    fn publish(&mut self) -> Result<(), CreateError> {
        let old = self.keep_old();
        match fs::rename(&self.temp, &self.path) {
            Ok(()) => {
                self.state = State::Published { old };
                Ok(())
            }
            Err(error) => {
                if let Some(old) = old {
                    let _ = fs::remove_file(old);
                }
                Err(output_error(&self.path, "rename the new file to")(error))
            }
        }
    }

    /// Gives what has the name now a second one. Where that is not possible, there is no way back.
    fn keep_old(&self) -> Option<PathBuf> {
        let old = temporary(self.path.parent()?, &self.path.file_name()?.to_string_lossy(), "old");
        fs::hard_link(&self.path, &old).ok().map(|()| old)
    }

    fn take_back(&mut self) {
        if let State::Published { old } = std::mem::replace(&mut self.state, State::Done) {
            // An error is being reported already; this is the best that can be done.
            let _ = match old {
                Some(old) => fs::rename(old, &self.path),
                None => fs::remove_file(&self.path),
            };
        } else {
            let _ = fs::remove_file(&self.temp);
        }
    }

    fn forget_old(&mut self) {
        if let State::Published { old: Some(old) } = std::mem::replace(&mut self.state, State::Done) {
            // A leftover does no harm.
            let _ = fs::remove_file(old);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// A name that no other process or thread uses.
fn temporary(dest: &Path, name: &str, extension: &str) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Long names leave no room for more.
    let stem: String = name.chars().take(40).collect();
    dest.join(format!(".{stem}.{}-{number}.{extension}", std::process::id()))
}

fn output_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    let path = path.to_path_buf();
    move |source| CreateError::Output { path, doing, source }
}
