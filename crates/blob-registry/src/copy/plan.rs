//! What a copy has to move: the graph below and behind a manifest, as far as the destination lacks it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use blob_core::Digest;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{CopyOptions, Place, too_many};
use crate::descriptor::{Descriptor, media_type};
use crate::error::{ErrorCode, RegistryError};
use crate::kind::{Kind, KindHint, resolve_any};
use crate::manifest::Outline;
use crate::reference::Target;
use crate::registry::{Manifest, PageRequest};

/// The manifests of one copy are in memory, together at most this many bytes.
const MAX_BYTES: usize = 64 << 20;

/// Pages of referrers to one manifest.
const MAX_PAGES: usize = 1_000;

/// A manifest of the graph.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) manifest: Manifest,
    outline: Outline,
    /// Whether the destination has it.
    pub(super) existing: bool,
    /// What the index lists that is no manifest, and layers whose size the manifest does not say.
    listed_blobs: Vec<Descriptor>,
}

impl Node {
    /// The blobs that it names and that are to be copied.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let named = self.outline.blobs.iter().chain(&self.listed_blobs);
        named.filter(|blob| !media_type::is_foreign(&blob.media_type))
    }

    pub(super) fn digest(&self) -> Digest {
        self.manifest.descriptor.digest
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

/// A graph of manifests. The first is the root; parents come before their children, subjects before their referrers.
#[derive(Debug)]
pub(super) struct Plan {
    nodes: Vec<Node>,
    /// Referrers that are listed and not there, or are about something else.
    pub(super) missing_referrers: u64,
    /// Positions in `nodes`.
    by_digest: HashMap<Digest, usize>,
}

/// What a manifest led to.
struct Found {
    node: Node,
    next: Vec<Wanted>,
}

/// A manifest to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    digest: Digest,
    why: Why,
}

/// What a manifest is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    /// It is the artifact, or part of it.
    Part,
    /// It is said to refer to this. Lists that clients keep may name what is gone, or something else.
    Referrer(Digest),
}

impl Plan {
    /// Finds the graph, breadth first.
    pub(super) async fn draw(
        from: &Place,
        target: &Target,
        to: &Place,
        options: &CopyOptions,
    ) -> Result<Self, RegistryError> {
        let root = from.registry.manifest(&from.repository, target).await?;
        let (digest, mut bytes) = (root.descriptor.digest, 0);
        let mut plan = Self { nodes: Vec::new(), missing_referrers: 0, by_digest: HashMap::new() };
        let mut seen = HashSet::from([Wanted { digest, why: Why::Part }]);
        let mut level = vec![(Wanted { digest, why: Why::Part }, Some(root))];
        for _ in 0..=options.max_depth {
            let work = stream::iter(level).map(|(wanted, known)| look_at(from, to, options, wanted, known));
            let mut work = work.buffered(options.concurrency.max(1)).boxed();
            let mut below = Vec::new();
            while let Some(found) = work.try_next().await? {
                let Some(Found { node, next }) = found else {
                    plan.missing_referrers += 1;
                    continue;
                };
                if plan.by_digest.contains_key(&node.digest()) {
                    continue;
                }
                bytes += node.manifest.bytes.len();
                if bytes > MAX_BYTES {
                    return Err(too_many(&digest, "bytes of manifests", MAX_BYTES));
                }
                for child in next {
                    // What is left out as a referrer may be a part of something.
                    if !plan.by_digest.contains_key(&child.digest) && seen.insert(child) {
                        below.push((child, None));
                    }
                    if seen.len() > options.max_manifests {
                        return Err(too_many(&digest, "manifests", options.max_manifests));
                    }
                }
                plan.by_digest.insert(node.digest(), plan.nodes.len());
                plan.nodes.push(node);
            }
            if below.is_empty() {
                return Ok(plan);
            }
            level = below;
        }
        Err(too_many(&digest, "levels of manifests", options.max_depth))
    }

    pub(super) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The blobs to copy, each once, in the order in which they are named.
    pub(super) fn blobs(&self, options: &CopyOptions) -> Vec<Descriptor> {
        let wanted = self.nodes.iter().filter(|node| options.verify || !node.existing);
        let mut seen = HashSet::new();
        wanted.flat_map(Node::blobs).filter(|blob| seen.insert(blob.digest)).cloned().collect()
    }

    /// The manifests of the graph that an index lists.
    pub(super) fn children(&self, node: &Node) -> impl Iterator<Item = &Node> {
        let listed = node.outline.manifests.iter();
        listed.filter_map(|child| self.by_digest.get(&child.digest).map(|&at| &self.nodes[at]))
    }

    /// The manifests to copy, in the order in which they may be pushed: all of a level at the same time.
    ///
    /// What an index lists is in a level before it, and so is the subject of a referrer, so that the destination can
    /// list it. Digests cannot be in a circle, except through a broken hash; such a circle is pushed last, for the
    /// destination to refuse.
    pub(super) fn levels(&self) -> Vec<Vec<&Node>> {
        let before: Vec<HashSet<usize>> = self.nodes.iter().map(|node| self.before(node)).collect();
        let mut missing: Vec<usize> = before.iter().map(HashSet::len).collect();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (at, before) in before.iter().enumerate() {
            for &earlier in before {
                after[earlier].push(at);
            }
        }
        let mut levels = Vec::new();
        let mut level: Vec<usize> = (0..self.nodes.len()).filter(|&at| missing[at] == 0).collect();
        while !level.is_empty() {
            let mut next = Vec::new();
            for &later in level.iter().flat_map(|&at| &after[at]) {
                missing[later] -= 1;
                if missing[later] == 0 {
                    next.push(later);
                }
            }
            levels.push(std::mem::replace(&mut level, next));
        }
        levels.push((0..self.nodes.len()).filter(|&at| missing[at] > 0).collect());
        let to_copy = |level: Vec<usize>| -> Vec<&Node> {
            level.into_iter().map(|at| &self.nodes[at]).filter(|node| !node.existing).collect()
        };
        levels.into_iter().map(to_copy).filter(|level| !level.is_empty()).collect()
    }

    /// What has to be there before `node`, as positions.
    fn before(&self, node: &Node) -> HashSet<usize> {
        let named = node.outline.manifests.iter().chain(&node.outline.subject);
        named.filter_map(|named| self.by_digest.get(&named.digest).copied()).collect()
    }
}

/// Reads a manifest, asks whether the destination has it, and finds out where it leads.
async fn look_at(
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    Wanted { digest, why }: Wanted,
    known: Option<Manifest>,
) -> Result<Option<Found>, RegistryError> {
    let target = Target::Digest(digest);
    let action = || format!("copying manifest {}@{digest}", from.repository);
    let existing = match to.registry.resolve(&to.repository, &target).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error),
    };
    let manifest = match known {
        Some(manifest) => manifest,
        None => match from.registry.manifest(&from.repository, &target).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() && matches!(why, Why::Referrer(_)) => {
                tracing::warn!(repository = %from.repository, %digest, "a referrer is listed and not there; leaving it out");
                return Ok(None);
            }
            // The artifact is there, and this part of it is not.
            Err(error) if error.is_not_found() => {
                let detail = "the registry lists it and does not have it";
                return Err(RegistryError::detailed(action(), ErrorCode::ManifestBlobUnknown, detail));
            }
            Err(error) => return Err(error),
        },
    };
    let outline = match Outline::parse(&manifest.bytes) {
        Ok(outline) => outline,
        Err(error) if matches!(why, Why::Referrer(_)) => {
            tracing::warn!(repository = %from.repository, %digest, %error, "a referrer is listed and is no manifest; leaving it out");
            return Ok(None);
        }
        Err(error) => return Err(RegistryError::detailed(action(), ErrorCode::ManifestInvalid, error.to_string())),
    };
    if let Why::Referrer(subject) = why
        && outline.subject.as_ref().is_none_or(|named| named.digest != subject)
    {
        tracing::warn!(repository = %from.repository, %digest, %subject, "a referrer is listed and has another subject; leaving it out");
        return Ok(None);
    }
    let mut found = Found { node: Node { manifest, outline, existing, listed_blobs: Vec::new() }, next: Vec::new() };
    // What the destination has is complete; but referrers of what is below it may be missing.
    if !existing || options.verify || options.referrers {
        found.children(from).await?;
    }
    if options.referrers {
        found.referrers(from, options).await?;
    }
    Ok(Some(found))
}

impl Found {
    async fn children(&mut self, from: &Place) -> Result<(), RegistryError> {
        for layer in &self.node.outline.fs_layers {
            let size = from.registry.stat_blob(&from.repository, layer).await?;
            self.node.listed_blobs.push(Descriptor::new(media_type::OCTET_STREAM, *layer, size));
        }
        for child in &self.node.outline.manifests {
            if media_type::is_manifest(&child.media_type) {
                self.next.push(Wanted { digest: child.digest, why: Why::Part });
                continue;
            }
            // An index may list anything. Image layouts show manifests as blobs, so the manifest is asked for first.
            let hint = Some(KindHint::Manifest);
            match resolve_any(&*from.registry, &from.repository, &child.digest, hint).await? {
                Kind::Manifest(_) => self.next.push(Wanted { digest: child.digest, why: Why::Part }),
                Kind::Blob { size } => {
                    let blob = Descriptor::new(child.media_type.clone(), child.digest, size);
                    self.node.listed_blobs.push(blob);
                }
            }
        }
        Ok(())
    }

    async fn referrers(&mut self, from: &Place, options: &CopyOptions) -> Result<(), RegistryError> {
        let (subject, mut request) = (self.node.digest(), PageRequest::first());
        let registry = Arc::clone(&from.registry);
        for _ in 0..MAX_PAGES {
            let page = registry.referrers(&from.repository, &subject, None, &request).await?;
            let wanted = |entry: Descriptor| Wanted { digest: entry.digest, why: Why::Referrer(subject) };
            self.next.extend(page.items.into_iter().map(wanted));
            if self.next.len() > options.max_manifests {
                return Err(too_many(&subject, "manifests", options.max_manifests));
            }
            let Some(next) = page.next else { return Ok(()) };
            request.after = Some(next);
        }
        Err(too_many(&subject, "pages of referrers", MAX_PAGES))
    }
}
