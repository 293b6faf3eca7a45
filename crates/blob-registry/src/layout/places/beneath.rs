//! Layouts beneath a directory, one for each repository.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::RegistryError;
use crate::layout::disk::Layout;
use crate::layout::failed;
use crate::layout::memo::Memo;
use crate::layout::verify::Verify;
use crate::reference::Repository;

/// The directory of a repository's layout. No part of a repository name begins with an underscore.
const LAYOUT: &str = "_layout";

/// Of more repositories than this, nothing is remembered for long.
const MAX_MEMOS: usize = 1024;

/// Layouts beneath a directory, with what is remembered of them.
#[derive(Clone, Debug)]
pub(in crate::layout) struct Beneath {
    pub(in crate::layout) root: Arc<Path>,
    memos: Arc<Mutex<HashMap<Repository, Arc<Memo>>>>,
    pub(super) sparse: bool,
    pub(super) verify: Verify,
}

impl Beneath {
    pub(in crate::layout) fn new(root: Arc<Path>) -> Self {
        Self { root, memos: Arc::default(), sparse: false, verify: Verify::No }
    }

    pub(super) fn layout(&self, repository: &Repository) -> Layout {
        let memo = {
            // Changes are single insertions: the map is whole even if a thread panicked.
            let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
            if memos.len() >= MAX_MEMOS && !memos.contains_key(repository) {
                memos.clear();
            }
            Arc::clone(memos.entry(repository.clone()).or_default())
        };
        let layout = Layout::remembered(self.root.join(repository.as_str()).join(LAYOUT), memo);
        layout.with_sparse(self.sparse).with_verify(self.verify)
    }
}

/// Every repository beneath `root` with its layout, in no order.
pub(in crate::layout) fn layouts(root: &Path) -> Result<Vec<(Repository, Layout)>, RegistryError> {
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, String)> = vec![(root.to_owned(), String::new())];
    while let Some((directory, name)) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            // Removed since its parent was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(failed(|| format!("listing {}", directory.display())))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed(|| format!("listing {}", directory.display())))?;
            let (path, Some(file_name)) = (entry.path(), entry.file_name().to_str().map(str::to_owned)) else {
                continue;
            };
            // Links are not followed: they could lead in circles.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if file_name == LAYOUT {
                if let Ok(repository) = Repository::new(&name) {
                    found.push((repository, Layout::new(path)));
                }
                continue;
            }
            let name = if name.is_empty() { file_name } else { format!("{name}/{file_name}") };
            if Repository::new(&name).is_ok() {
                open.push((path, name));
            }
        }
    }
    found.retain(|(_, layout)| layout.exists());
    Ok(found)
}
