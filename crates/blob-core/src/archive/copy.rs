//! From the archive to directories and files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::Archive;
use crate::error::ExtractError;
use crate::extract::{
    self, ExtractOptions, ExtractReport, Layout, Order, Planned, Selection, Surplus, SurplusOptions, SurplusReport,
};
use crate::path;

impl Archive {
    /// Extracts `selection` to the directory `dest`, which is created with its parents if it is absent.
    ///
    /// # Errors
    /// [`ExtractError`]; files written before the failure stay when the destination was not empty, each of them whole.
    ///
    /// # Cancellation
    /// Dropping the future stops the threads, which remove their temporary files; so does a
    /// [`Progress`](crate::Progress) that breaks.
    pub async fn extract(
        &self,
        selection: Selection,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, ExtractError> {
        extract::extract(self, order(selection, dest.as_ref(), options), options).await
    }

    /// Extracts files, links and directories to the directory `dest`, as [`extract`](Self::extract) does.
    ///
    /// # Errors
    /// [`ExtractError`]; a path that is not in the archive is one.
    pub async fn copy_to<P: AsRef<[u8]>>(
        &self,
        paths: impl IntoIterator<Item = P>,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, ExtractError> {
        self.extract(Selection::paths(paths), dest, options).await
    }

    /// Extracts what lies beneath the directory `prefix` to the directory `dest`, as [`extract`](Self::extract) does.
    /// With [`clean`](ExtractOptions::clean), what stands at `dest/prefix` is replaced, or all of `dest` when the layout
    /// strips the prefix.
    ///
    /// # Errors
    /// [`ExtractError`]; a prefix that is no directory of the archive is one.
    pub async fn copy_dir(
        &self,
        prefix: impl AsRef<[u8]>,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, ExtractError> {
        self.extract(Selection::directory(prefix), dest, options).await
    }

    /// Extracts one file to exactly `dest`; parents are created.
    ///
    /// # Errors
    /// [`ExtractError`]; a directory at `dest` is one unless it is skipped.
    pub async fn copy_file(
        &self,
        path: impl AsRef<[u8]>,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<ExtractReport, ExtractError> {
        let order = self.file_order(path.as_ref(), dest.as_ref())?;
        extract::extract(self, order, options).await
    }

    /// The files, links and empty directories at `dest` that an extraction would meet and that differ from the archive:
    /// what [`Existing::KeepEqual`](crate::extract::Existing::KeepEqual) would refuse, sorted. Nothing is written.
    ///
    /// # Errors
    /// [`ExtractError`], also for what an extraction would refuse before it looks at files.
    ///
    /// # Cancellation
    /// Dropping the future stops the comparison.
    pub async fn conflicts(
        &self,
        selection: Selection,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<Vec<PathBuf>, ExtractError> {
        // Where things go is all that matters here, not how a clean destination would be reached.
        let order =
            Order { beneath: Vec::new(), layout: options.layout.clone(), ..order(selection, dest.as_ref(), options) };
        extract::conflicts(self, order, options).await
    }
}

impl Archive {
    /// What an extraction would do to each file, link and empty directory of `selection`, sorted by path. Nothing is
    /// written, and no data is fetched; files that exist are hashed.
    ///
    /// # Errors
    /// [`ExtractError`] for what an extraction would refuse before it looks at files.
    ///
    /// # Cancellation
    /// Dropping the future stops the comparison.
    pub async fn preview(
        &self,
        selection: Selection,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<Vec<Planned>, ExtractError> {
        self.preview_after(selection, dest, options, &[]).await
    }

    /// As [`preview`](Self::preview), where those of `surplus` that stand in the way are taken out of it first, as by
    /// [`SetAside`](crate::extract::SetAside).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    pub async fn preview_after(
        &self,
        selection: Selection,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
        surplus: &[Surplus],
    ) -> Result<Vec<Planned>, ExtractError> {
        let gone = surplus.iter().filter(|surplus| surplus.obstructs).map(|surplus| surplus.path.clone()).collect();
        extract::preview(self, order(selection, dest.as_ref(), options), options, gone).await
    }

    /// As [`preview`](Self::preview), for [`copy_file`](Self::copy_file).
    ///
    /// # Errors
    /// As there.
    pub async fn preview_file(
        &self,
        path: impl AsRef<[u8]>,
        dest: impl AsRef<Path>,
        options: &ExtractOptions,
    ) -> Result<Vec<Planned>, ExtractError> {
        extract::preview(self, self.file_order(path.as_ref(), dest.as_ref())?, options, HashSet::new()).await
    }

    /// What stands at `dest` and is not in `selection`: what has to go so that `dest` holds nothing else. Of a directory
    /// that has to go as a whole only the directory is named.
    ///
    /// # Errors
    /// [`ExtractError`], when a directory cannot be listed.
    ///
    /// # Cancellation
    /// Dropping the future stops the search.
    pub async fn surplus(
        &self,
        selection: Selection,
        dest: impl AsRef<Path>,
        how: SurplusOptions,
    ) -> Result<SurplusReport, ExtractError> {
        let options = ExtractOptions { allow_external_symlinks: true, ..ExtractOptions::default() };
        extract::surplus(self, order(selection, dest.as_ref(), &options), how).await
    }

    /// The order for one file under exactly the name `dest`.
    fn file_order(&self, path: &[u8], dest: &Path) -> Result<Order, ExtractError> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = path::normalize(path);
        self.file(&path)?;
        let Some(name) = dest.file_name() else {
            let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(ExtractError::Io { action: "writing the file", path: dest.to_path_buf(), source });
        };
        let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Order {
            selection: Selection::paths([&path]),
            layout: Layout::Flat,
            dest: parent.to_path_buf(),
            beneath: Vec::new(),
            rename: Some(name.as_bytes().to_vec()),
        })
    }
}

/// A clean extraction of one directory under its full path replaces that directory below the destination, not all of
/// the destination.
fn order(selection: Selection, dest: &Path, options: &ExtractOptions) -> Order {
    let (mut layout, mut beneath) = (options.layout.clone(), Vec::new());
    if let (Selection::Directory(prefix), Layout::Full, true) = (&selection, &layout, options.clean) {
        beneath = path::normalize(prefix).into_owned();
        layout = if beneath.is_empty() { Layout::Full } else { Layout::Strip(beneath.clone()) };
    }
    Order { selection, layout, dest: dest.to_path_buf(), beneath, rename: None }
}
