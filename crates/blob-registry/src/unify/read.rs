//! Who is asked for content, in which order, and whose answer counts.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use blob_core::{ByteSource, Digest};
use futures_util::{StreamExt as _, future, stream};

use super::fill;
use super::{Descriptor, Manifest, ReadPolicy, Registry, RegistryError, Repository, Result, Shared, TagPolicy, Target};
use crate::error::ErrorCode;
use crate::reference::Tag;

/// Registries that are asked, before those of the next stage.
pub(super) struct Stage {
    members: Vec<usize>,
    /// At most this many at a time.
    width: usize,
    /// Whether an answer waits for those of the registries before it.
    ordered: bool,
    /// Whether a registry that cannot be asked ends the search.
    strict: bool,
}

impl Shared {
    /// Whom to ask for content, which is the same everywhere.
    pub(super) fn for_content(&self) -> Vec<Stage> {
        let (mut well, resting): (Vec<usize>, Vec<usize>) =
            (0..self.members.len()).partition(|&at| !self.members[at].health.is_resting());
        let mut stages = Vec::new();
        if self.options.fill && well.first() == Some(&0) {
            // What the first has need not be copied there.
            stages.push(Stage { members: vec![well.remove(0)], width: 1, ordered: true, strict: false });
        }
        if self.options.read == ReadPolicy::Random && !well.is_empty() {
            let random = RandomState::new().hash_one(0) as usize;
            let begin = random % well.len();
            well.rotate_left(begin);
        }
        let race = self.options.read == ReadPolicy::Race;
        for members in [well, resting] {
            let width = if race { members.len().max(1) } else { 1 };
            stages.push(Stage { width, ordered: !race, members, strict: false });
        }
        stages
    }

    /// Whom to ask for tags: in the order in which their word counts, at once if reads race.
    fn for_tags(&self) -> Vec<Stage> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        if self.options.tags == TagPolicy::Last {
            order.reverse();
        }
        let strict = self.options.tags == TagPolicy::Strict;
        // Where the order counts whatever happens, who failed a moment ago is asked in turn.
        let (well, resting): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&at| strict || !self.members[at].health.is_resting());
        let race = self.options.read == ReadPolicy::Race;
        let stage = |members: Vec<usize>| {
            let width = if race { members.len().max(1) } else { 1 };
            Stage { width, ordered: true, members, strict }
        };
        vec![stage(well), stage(resting)]
    }

    /// The first answer, and whose it is. Failures show if there is none, the one that says most.
    pub(super) async fn first<T: Send, F>(
        &self,
        stages: Vec<Stage>,
        action: impl Fn() -> String,
        call: impl Fn(Arc<dyn Registry>) -> F + Send + Sync,
    ) -> Result<(usize, T)>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut failure: Option<RegistryError> = None;
        for Stage { members, width, ordered, strict } in stages {
            let calls = stream::iter(members).map(|at| {
                let call = call(Arc::clone(&self.members[at].registry));
                async move { (at, call.await) }
            });
            let mut answers =
                if ordered { calls.buffered(width).boxed() } else { calls.buffer_unordered(width).boxed() };
            while let Some((at, answer)) = answers.next().await {
                self.members[at].health.note(&answer);
                match answer {
                    Ok(answer) => return Ok((at, answer)),
                    // It has the content, and so does everybody else: asking them changes nothing.
                    Err(error) if error.error_code() == ErrorCode::RangeInvalid => return Err(error),
                    Err(error) if strict && !error.is_not_found() && !error.is_unsupported() => return Err(error),
                    Err(error) => failure = Some(merged(failure, error)),
                }
            }
        }
        Err(failure.unwrap_or_else(|| RegistryError::unsupported(action())))
    }

    pub(super) async fn resolve(&self, repository: &Repository, target: &Target) -> Result<Descriptor> {
        let action = || format!("resolving {}", name(repository, target));
        let call = |registry: Arc<dyn Registry>| async move { registry.resolve(repository, target).await };
        match target {
            Target::Digest(_) => Ok(self.first(self.for_content(), action, call).await?.1),
            Target::Tag(tag) if self.options.tags == TagPolicy::Agree => self.agreed(repository, tag).await,
            Target::Tag(_) => Ok(self.first(self.for_tags(), action, call).await?.1),
        }
    }

    pub(super) async fn manifest(&self, repository: &Repository, target: &Target) -> Result<Manifest> {
        let action = || format!("reading manifest {}", name(repository, target));
        let (target, tag) = match target {
            Target::Tag(tag) if self.options.tags == TagPolicy::Agree => {
                (Target::Digest(self.agreed(repository, tag).await?.digest), None)
            }
            Target::Tag(tag) => (target.clone(), Some(tag)),
            Target::Digest(_) => (target.clone(), None),
        };
        let target = &target;
        let stages = if tag.is_some() { self.for_tags() } else { self.for_content() };
        let call = |registry: Arc<dyn Registry>| async move { registry.manifest(repository, target).await };
        let (at, manifest) = self.first(stages, action, call).await?;
        fill::manifest(self, at, repository, &manifest, tag).await;
        Ok(manifest)
    }

    /// What every registry that knows `tag` has it at.
    async fn agreed(&self, repository: &Repository, tag: &Tag) -> Result<Descriptor> {
        let (action, target) = (format!("resolving {repository}:{tag}"), Target::Tag(tag.clone()));
        let calls = self.members.iter().map(|member| member.registry.resolve(repository, &target));
        let (mut found, mut failure): (Option<Descriptor>, Option<RegistryError>) = (None, None);
        for (member, answer) in self.members.iter().zip(future::join_all(calls).await) {
            member.health.note(&answer);
            match (answer, &found) {
                (Ok(other), Some(one)) if one.digest != other.digest => {
                    return Err(RegistryError::Conflict { action, one: one.digest, other: other.digest });
                }
                (Ok(_), Some(_)) => {}
                (Ok(descriptor), None) => found = Some(descriptor),
                (Err(error), _) => failure = Some(merged(failure, error)),
            }
        }
        found.ok_or_else(|| failure.unwrap_or_else(|| RegistryError::unsupported(action)))
    }

    pub(super) async fn local_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ByteSource>>> {
        let (mut perhaps, mut failure) = (false, None);
        for member in &self.members {
            match member.registry.local_blob(repository, digest).await {
                Ok(Some(source)) => return Ok(Some(source)),
                Ok(None) => perhaps = true,
                Err(error) => failure = Some(merged(failure, error)),
            }
        }
        match failure {
            Some(error) if !perhaps => Err(error),
            _ => Ok(None),
        }
    }
}

/// The failure that says more.
pub(super) fn merged(failure: Option<RegistryError>, error: RegistryError) -> RegistryError {
    match failure {
        Some(failure) => failure.or_worse(error),
        None => error,
    }
}

fn name(repository: &Repository, target: &Target) -> String {
    match target {
        Target::Tag(tag) => format!("{repository}:{tag}"),
        Target::Digest(digest) => format!("{repository}@{digest}"),
    }
}
