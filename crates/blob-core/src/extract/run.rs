//! One extraction from beginning to end, on a thread of its own.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt as _;
use futures_util::future::join3;

use super::again::{self, Again};
use super::cached::ask;
use super::feed::{Pace, feed};
use super::fill::Fill;
use super::link::Link;
use super::plan::{Plan, Shape};
use super::select::{Placed, Tree};
use super::sink::{
    Committed, Destination, Finished, Handles, Placing, Publish, Root, Scan, Standing, folds_case, io_error, make_dirs,
};
use super::workers::{Tally, Workshop};
use super::{Existing, ExtractError, ExtractOptions, ExtractReport, Layout, Selection, collide, links, merge};
use crate::archive::Archive;
use crate::index::Node;
use crate::source::ByteSource;

/// Local data is read in runs of this many bytes: small enough to go round among the threads.
const LOCAL_RUN: u64 = 1 << 20;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) selection: Selection,
    pub(crate) layout: Layout,
    pub(crate) dest: PathBuf,
    /// A directory below `dest` that is the real destination; no link on the way to it is followed.
    pub(crate) beneath: Vec<u8>,
    /// The name for the one file that is selected.
    pub(crate) rename: Option<Vec<u8>>,
}

/// What the threads and the async side work on.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tree: Arc<Tree>,
    pub(super) plan: Plan,
    /// Sum of the sizes of all files of the tree, in bytes.
    pub(super) bytes: u64,
}

impl Prepared {
    pub(super) fn source(&self) -> &Arc<dyn ByteSource> {
        self.tree.archive.source()
    }
}

/// Stops the threads when the caller's future is dropped.
struct CancelOnDrop(Arc<Link>, Option<Arc<Fill>>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
        if let Some(fill) = &self.1 {
            fill.stop();
        }
    }
}

/// What the threads need from the async side.
enum Stage {
    /// What a cache has of the files of a plan; the answer is the files that it lacks.
    Ask { prepared: Arc<Prepared>, missed: oneshot::Sender<Vec<Placed>> },
    /// The stored bytes of the files of a plan.
    Fetch(Arc<Prepared>),
}

/// Extracts; the threads do the work, this side only fetches what is not at hand.
pub(crate) async fn extract(
    archive: &Archive,
    order: Order,
    options: &ExtractOptions,
) -> Result<ExtractReport, ExtractError> {
    let link = Arc::new(Link::default());
    let cache = archive.options().cache.as_ref().filter(|_| archive.source().local().is_none());
    let fill = cache.map(|_| Arc::new(Fill::new(archive.options().alarm.clone())));
    let guard = CancelOnDrop(Arc::clone(&link), fill.clone());
    let (stages, mut wanted) = mpsc::unbounded();
    let (done, report) = oneshot::channel();
    let (again, requests) = again::channel();
    let job = Extraction {
        archive: archive.clone(),
        order,
        options: options.clone(),
        link: Arc::clone(&link),
        fill: fill.clone(),
        again: (archive.source().local().is_none()).then_some(again),
    };
    let started = std::thread::Builder::new().name("blob-extract".into()).spawn(move || {
        let result = job.run(stages);
        // The caller may be gone; what was to be cleaned up, is.
        drop(job);
        let _ = done.send(result);
    });
    started.map_err(|error| io_error("starting a thread to extract to", "", error))?;
    let pace = Pace { requests: options.read_concurrency.max(1), bytes: options.read_ahead_bytes };
    // Kept until everything that was fetched is in the cache.
    let mut turn = None;
    let serve = async {
        // When nothing more has to be had, or preparing failed, the sender is dropped.
        while let Some(stage) = wanted.next().await {
            match stage {
                Stage::Ask { prepared, missed } => turn = ask(&link, &prepared, missed).await,
                Stage::Fetch(prepared) => {
                    if let Err(error) = feed(&link, &prepared, pace).await {
                        link.cancel();
                        return Err(error);
                    }
                }
            }
            link.close();
        }
        Ok(())
    };
    let keep = async {
        if let (Some(fill), Some(cache)) = (&fill, cache) {
            fill.serve(cache).await;
        }
    };
    let (fetched, (), ()) = join3(serve, keep, requests.serve(&link, archive.source())).await;
    drop(turn);
    let result = report.await.expect("the thread sends its result, unless it panics");
    drop(guard);
    match (result, fetched) {
        (Err(ExtractError::Cancelled), Err(error)) => Err(error),
        (result, _) => result,
    }
}

pub(super) struct Extraction {
    archive: Archive,
    pub(super) order: Order,
    pub(super) options: ExtractOptions,
    pub(super) link: Arc<Link>,
    fill: Option<Arc<Fill>>,
    /// Whom to ask for other bytes, if they come from elsewhere.
    again: Option<Again>,
}

impl Drop for Extraction {
    fn drop(&mut self) {
        if let Some(fill) = &self.fill {
            fill.close();
        }
    }
}

impl Extraction {
    /// For looking at a destination: nothing is fetched or cached.
    pub(super) fn idle(archive: &Archive, order: Order, options: &ExtractOptions) -> Self {
        let (archive, options, link) = (archive.clone(), options.clone(), Arc::new(Link::default()));
        Self { archive, order, options, link, fill: None, again: None }
    }

    /// Whether files may come from a content cache.
    pub(super) fn has_cache(&self) -> bool {
        self.fill.is_some()
    }

    fn run(&self, stages: mpsc::UnboundedSender<Stage>) -> Result<ExtractReport, ExtractError> {
        let mut tree = self.tree()?;
        let Order { dest, beneath, rename, .. } = &self.order;
        let mut destination = match rename {
            Some(_) => Destination::in_place(dest)?,
            None => Destination::open(dest, beneath, self.options.clean)?,
        };
        let mut report = ExtractReport {
            links_left_out: tree.links_left_out,
            paths_left_out: tree.paths_left_out,
            ..ExtractReport::default()
        };
        let (present, modes) = if destination.is_hidden() {
            (vec![true], Vec::new())
        } else {
            self.look(&mut tree, destination.root(), &mut report)?
        };
        if let Some((a, b)) = collide::folded(&tree)
            && folds_case(destination.root())?
        {
            return Err(ExtractError::Collision { a: a.into(), b: b.into() });
        }
        self.check_room(&tree, &destination)?;
        report.dirs += make_dirs(&tree, destination.root(), &present)?;

        let publish = self.publish(&destination);
        let tree = Arc::new(tree);
        self.write(&tree, &destination, stages, &mut report)?;
        let mut occupied = self.place(&tree, destination.root(), publish, &mut report)?;
        self.set_modes(&tree, destination.root(), &modes, &mut report)?;
        match destination.commit(self.options.fsync)? {
            Committed::Done => {}
            Committed::Filled(root) => {
                let merge = merge::Merge {
                    tree: &tree,
                    from: destination.root(),
                    to: &root,
                    options: &self.options,
                    threads: self.threads(),
                };
                occupied.extend(merge.run(&mut report)?);
            }
        }
        self.note_skipped(&tree, &occupied, &mut report);
        report.peak_buffered_bytes = self.link.peak();
        Ok(report)
    }

    /// Everything that can be refused without looking at the destination.
    pub(super) fn tree(&self) -> Result<Tree, ExtractError> {
        let mut tree = Tree::new(&self.archive, &self.order.selection, &self.order.layout, &self.options)?;
        tree.rename.clone_from(&self.order.rename);
        if self.order.layout != Layout::Full {
            collide::check(&tree)?;
        }
        if !self.options.allow_external_symlinks {
            links::check(&tree, &self.order.beneath)?;
        }
        Ok(tree)
    }

    /// Takes out of `tree` what stands at the destination and stays; the answer is which directories there are, and which
    /// files want another mode.
    fn look(
        &self,
        tree: &mut Tree,
        root: &Root,
        report: &mut ExtractReport,
    ) -> Result<(Vec<bool>, Vec<Placed>), ExtractError> {
        let scan = self.scan(tree, root);
        let present = scan.dirs()?;
        let (mut differing, mut modes) = (Vec::new(), Vec::new());
        let mut sort = |things: &[Placed]| -> Result<Vec<Placed>, ExtractError> {
            let mut rest = Vec::new();
            let standing = scan.things(things, &present, &|| self.link.is_cancelled())?;
            for (&placed, standing) in things.iter().zip(standing) {
                match standing {
                    Standing::Write | Standing::Replace => rest.push(placed),
                    Standing::Mode => modes.push(placed),
                    Standing::Kept => report.kept += 1,
                    Standing::Skipped => report.skip(|| root.path(&tree.target(placed))),
                    Standing::Differs => differing.push(placed),
                }
            }
            Ok(rest)
        };
        let (files, links, empty_dirs) = (sort(&tree.files)?, sort(&tree.links)?, sort(&tree.empty_dirs)?);
        scan.refuse(&differing)?;
        (tree.files, tree.links, tree.empty_dirs) = (files, links, empty_dirs);
        Ok((present, modes))
    }

    /// How the destination is looked at.
    pub(super) fn scan<'a>(&self, tree: &'a Tree, root: &'a Root) -> Scan<'a> {
        let (existing, modes) = (self.options.existing, self.options.compare_modes && self.options.preserve_mode);
        Scan { tree, root, existing, modes, gone: None, threads: self.threads() }
    }

    /// Sets the modes of files that need nothing else.
    fn set_modes(
        &self,
        tree: &Tree,
        root: &Root,
        files: &[Placed],
        report: &mut ExtractReport,
    ) -> Result<(), ExtractError> {
        let (scan, mut handles) = (self.scan(tree, root), Handles::new(root, tree));
        for &placed in files {
            scan.set_mode(handles.get(placed.dir)?, placed)?;
        }
        report.kept += files.len() as u64;
        report.modes += files.len() as u64;
        Ok(())
    }

    fn publish(&self, destination: &Destination) -> Publish {
        match self.options.existing {
            _ if destination.is_hidden() => Publish::Direct,
            existing if existing.replaces() => Publish::Replace,
            _ => Publish::New,
        }
    }

    /// How `files` of `tree` are read.
    fn plan(&self, tree: &Tree, files: &[Placed]) -> Plan {
        let run_bytes = if self.is_local() { LOCAL_RUN } else { self.options.chunk_bytes.max(1) };
        Plan::new(tree, files, Shape { run_bytes, max_gap: self.options.max_gap })
    }

    fn is_local(&self) -> bool {
        self.archive.source().local().is_some()
    }

    pub(super) fn threads(&self) -> usize {
        let default = || std::thread::available_parallelism().map_or(2, NonZero::get).min(16);
        self.options.workers.map_or_else(default, NonZero::get)
    }

    /// Writes all files: what the cache has first, then what has to be fetched.
    fn write(
        &self,
        tree: &Arc<Tree>,
        destination: &Destination,
        stages: mpsc::UnboundedSender<Stage>,
        report: &mut ExtractReport,
    ) -> Result<(), ExtractError> {
        let bytes = tree.files.iter().map(|&placed| tree.entry(placed).original_size()).fold(0, u64::saturating_add);
        let prepared = |plan| Arc::new(Prepared { tree: Arc::clone(tree), plan, bytes });
        let tally = Tally::default();
        let mut missed = None;
        if self.fill.is_some() {
            let prepared = prepared(Plan::ask(tree));
            let (answer, answered) = oneshot::channel();
            // The caller may be gone, and the link cancelled.
            let _ = stages.unbounded_send(Stage::Ask { prepared: Arc::clone(&prepared), missed: answer });
            self.work(&prepared, destination, &tally)?;
            missed = Some(received(answered)?);
            self.link.reopen();
        }
        let prepared = prepared(self.plan(tree, missed.as_ref().unwrap_or(&tree.files)));
        if !self.is_local() {
            let _ = stages.unbounded_send(Stage::Fetch(Arc::clone(&prepared)));
        }
        // The async side is done once it has served what was asked for until now.
        drop(stages);
        self.work(&prepared, destination, &tally)?;
        report.files += tally.files.load(Ordering::Relaxed);
        report.bytes += tally.bytes.load(Ordering::Relaxed);
        report.kept += tally.kept.load(Ordering::Relaxed);
        report.cached += tally.cached.load(Ordering::Relaxed);
        report.linked += tally.linked.load(Ordering::Relaxed);
        report.cached_bytes += tally.cached_bytes.load(Ordering::Relaxed);
        let occupied = tally.occupied.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.note_skipped(tree, &occupied, report);
        Ok(())
    }

    /// Works a plan off with all threads.
    fn work(&self, prepared: &Prepared, destination: &Destination, tally: &Tally) -> Result<(), ExtractError> {
        let plan = &prepared.plan;
        let shop = Workshop {
            prepared,
            root: destination.root(),
            publish: self.publish(destination),
            options: &self.options,
            link: &self.link,
            fed: !self.is_local(),
            next: AtomicUsize::new(0),
            tally,
            fill: self.fill.as_deref(),
            again: self.again.as_ref(),
            umask: Workshop::umask_for(&self.options),
        };
        let threads = self.threads().min(plan.larges.len() + plan.batches.len() + plan.asked.len());
        std::thread::scope(|scope| {
            for number in 1..threads {
                let thread = std::thread::Builder::new().name(format!("blob-extract-{number}"));
                if thread.spawn_scoped(scope, || shop.work()).is_err() {
                    // This thread does the work of those that could not be started.
                    break;
                }
            }
            shop.work();
        });
        match self.link.failure() {
            Some(error) => Err(error),
            None if self.link.is_cancelled() => Err(ExtractError::Cancelled),
            None => Ok(()),
        }
    }

    /// Creates empty directories, then links; the answer is the links that found something in their place.
    fn place(
        &self,
        tree: &Tree,
        root: &Root,
        publish: Publish,
        report: &mut ExtractReport,
    ) -> Result<Vec<Placed>, ExtractError> {
        let (modes, times) = (self.options.preserve_mode, self.options.preserve_times);
        let placing = Placing { tree, root, publish, modes, times };
        let mut handles = Handles::new(root, tree);
        let mut occupied = Vec::new();
        for &placed in tree.empty_dirs.iter().chain(&tree.links) {
            match tree.archive.index().at(placed.node) {
                Node::EmptyDir(dir) => match placing.empty_dir(&mut handles, placed, dir)? {
                    Finished::Written => report.dirs += 1,
                    Finished::Occupied => report.kept += 1,
                },
                Node::Symlink(link) => match placing.link(&mut handles, placed, link)? {
                    Finished::Written => report.symlinks += 1,
                    Finished::Occupied => occupied.push(placed),
                },
                Node::File(_) | Node::Directory(_) => {}
            }
        }
        Ok(occupied)
    }

    fn note_skipped(&self, tree: &Tree, occupied: &[Placed], report: &mut ExtractReport) {
        for &placed in occupied {
            report.skip(|| self.order.dest.join(path_of(&tree.target(placed))));
        }
    }
}

/// What was answered before the queue of jobs was closed.
fn received(mut answered: oneshot::Receiver<Vec<Placed>>) -> Result<Vec<Placed>, ExtractError> {
    answered.try_recv().ok().flatten().ok_or(ExtractError::Cancelled)
}

pub(super) fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// The things at the destination that stand in the way of the order and differ from the archive.
pub(crate) async fn conflicts(
    archive: &Archive,
    order: Order,
    options: &ExtractOptions,
) -> Result<Vec<PathBuf>, ExtractError> {
    aside(Extraction::idle(archive, order, options), Extraction::conflicts).await
}

/// Runs `work` on a thread of its own, which is stopped when the future is dropped.
pub(super) async fn aside<T: Send + 'static>(
    job: Extraction,
    work: impl FnOnce(&Extraction) -> Result<T, ExtractError> + Send + 'static,
) -> Result<T, ExtractError> {
    let guard = CancelOnDrop(Arc::clone(&job.link), None);
    let (done, found) = oneshot::channel();
    let started = std::thread::Builder::new().name("blob-compare".into()).spawn(move || {
        // The caller may be gone.
        let _ = done.send(work(&job));
    });
    started.map_err(|error| io_error("starting a thread to compare with", "", error))?;
    let result = found.await.expect("the thread sends its result, unless it panics");
    drop(guard);
    result
}

impl Extraction {
    fn conflicts(&self) -> Result<Vec<PathBuf>, ExtractError> {
        let tree = self.tree()?;
        let dest = &self.order.dest;
        let Some(root) = Destination::look(dest)? else { return Ok(Vec::new()) };
        let scan = Scan { existing: Existing::KeepEqual, modes: false, ..self.scan(&tree, &root) };
        let present = scan.dirs()?;
        let mut paths = Vec::new();
        for things in [&tree.files, &tree.links, &tree.empty_dirs] {
            let standing = scan.things(things, &present, &|| self.link.is_cancelled())?;
            let differing = things.iter().zip(standing).filter(|(_, standing)| *standing == Standing::Differs);
            paths.extend(differing.map(|(&placed, _)| dest.join(path_of(&tree.target(placed)))));
        }
        paths.sort();
        Ok(paths)
    }
}
