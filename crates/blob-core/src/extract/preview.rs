//! What an extraction would do, found out without doing it.

use std::collections::HashSet;
use std::path::PathBuf;

use super::run::{Extraction, aside, path_of};
use super::select::Placed;
use super::sink::{Destination, Scan, Standing};
use super::{ExtractError, ExtractOptions, Order};
use crate::archive::Archive;
use crate::index::Node;

/// What an extraction would do to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// It is created: nothing stands there.
    Create,
    /// What stands there is replaced.
    Replace,
    /// It stands there as the archive has it, and stays.
    Keep,
    /// It stands there as the archive has it, and is given other permission bits.
    SetMode,
    /// Something else stands there, and stays.
    Skip,
    /// Something else stands there, so the whole extraction is refused.
    Refuse,
}

/// One thing of the archive, and what would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its path in the archive.
    pub path: Box<[u8]>,
    /// Where it goes.
    pub target: PathBuf,
    /// Its size in bytes; 0 for links and directories.
    pub size: u64,
    /// What would be done.
    pub action: Action,
}

/// Looks at the destination of an order, from which what stands at the paths `gone` will be taken away first.
pub(crate) async fn preview(
    archive: &Archive,
    order: Order,
    options: &ExtractOptions,
    gone: HashSet<Box<[u8]>>,
) -> Result<Vec<Planned>, ExtractError> {
    aside(Extraction::idle(archive, order, options), move |job| job.preview(&gone)).await
}

impl Extraction {
    fn preview(&self, gone: &HashSet<Box<[u8]>>) -> Result<Vec<Planned>, ExtractError> {
        let tree = self.tree()?;
        let dest = self.order.dest.join(path_of(&self.order.beneath));
        let things: Vec<Placed> = tree.files.iter().chain(&tree.links).chain(&tree.empty_dirs).copied().collect();
        let hidden = self.options.clean && self.order.rename.is_none();
        let root = if hidden { None } else { Destination::look(&dest)? };
        let standing = match &root {
            None => vec![Standing::Write; things.len()],
            Some(root) => {
                let scan = Scan { gone: Some(gone), ..self.scan(&tree, root) };
                let present = scan.dirs()?;
                scan.things(&things, &present, &|| self.link.is_cancelled())?
            }
        };
        let mut planned: Vec<Planned> = things
            .iter()
            .zip(standing)
            .map(|(&placed, standing)| {
                let size = match tree.archive.index().at(placed.node) {
                    Node::File(entry) => entry.original_size(),
                    _ => 0,
                };
                let action = action(standing);
                Planned {
                    path: tree.path(placed).into(),
                    target: dest.join(path_of(&tree.target(placed))),
                    size,
                    action,
                }
            })
            .collect();
        planned.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(planned)
    }
}

fn action(standing: Standing) -> Action {
    match standing {
        Standing::Write => Action::Create,
        Standing::Replace => Action::Replace,
        Standing::Mode => Action::SetMode,
        Standing::Kept => Action::Keep,
        Standing::Skipped => Action::Skip,
        Standing::Differs => Action::Refuse,
    }
}
