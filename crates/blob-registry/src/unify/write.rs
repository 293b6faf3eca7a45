//! Writes to one registry or to all.

use std::sync::Arc;

use blob_core::Digest;
use futures_util::future;

use super::progress::Slowest;
use super::read::merged;
use super::upload::{self, Joint};
use super::{
    Mount, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry, RegistryError, Repository, Result, Shared,
    Upload, UploadId, WritePolicy,
};

impl Shared {
    /// The registries that are written to, with their positions.
    fn writers(&self) -> impl Iterator<Item = (usize, Arc<dyn Registry>)> + '_ {
        let count = match self.options.write {
            WritePolicy::First => 1,
            WritePolicy::All => self.members.len(),
        };
        self.members.iter().take(count).map(|member| Arc::clone(&member.registry)).enumerate()
    }

    /// Does `call` in every registry that is written to, at the same time.
    async fn everywhere<T, F>(&self, call: impl Fn(Arc<dyn Registry>) -> F) -> Vec<(usize, Result<T>)>
    where
        F: Future<Output = Result<T>>,
    {
        let calls = self.writers().map(|(at, registry)| {
            let call = call(registry);
            async move { (at, call.await) }
        });
        future::join_all(calls).await
    }

    pub(super) async fn push_blob(&self, repository: &Repository, blob: PushBlob) -> Result<PushedBlob> {
        let action = format!("pushing blob {repository}@{}", blob.digest);
        let watchers = Slowest::split(&blob, self.writers().count());
        let calls = self.writers().zip(watchers).map(|((at, registry), watcher)| {
            let mut blob = blob.clone();
            blob.progress = watcher;
            async move { (at, registry.push_blob(repository, blob).await) }
        });
        let pushed = settled(&action, future::join_all(calls).await)?;
        let any = |wanted| pushed.iter().any(|(_, pushed)| *pushed == wanted);
        let most_work = [PushedBlob::Uploaded, PushedBlob::Mounted].into_iter().find(|&how| any(how));
        Ok(most_work.unwrap_or(PushedBlob::Existing))
    }

    pub(super) async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: PushManifest,
    ) -> Result<PushedManifest> {
        let action = format!("pushing manifest {repository}@{}", manifest.digest);
        let mut writers = self.writers();
        let Some((_, first)) = writers.next() else { return Err(RegistryError::unsupported(action)) };
        // What the first refuses, a condition that does not hold above all, no other shall have.
        let pushed = first.push_manifest(repository, manifest.clone()).await?;
        let rest = writers.map(|(at, registry)| {
            let manifest = manifest.clone();
            async move { (at, registry.push_manifest(repository, manifest).await) }
        });
        let mut results = future::join_all(rest).await;
        results.insert(0, (0, Ok(pushed)));
        let pushed = settled(&action, results)?;
        // An index that one of them lacks has to be kept by the caller.
        let agreed = pushed.iter().all(|(_, other)| other.subject == pushed[0].1.subject);
        let subject = pushed[0].1.subject.filter(|_| agreed);
        Ok(PushedManifest::new(manifest.digest, subject))
    }

    /// Deletes something: it is enough if one registry had it.
    pub(super) async fn delete<F>(&self, action: String, call: impl Fn(Arc<dyn Registry>) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let mut results = self.everywhere(call).await;
        if results.iter().any(|(_, result)| result.is_ok()) {
            results.retain(|(_, result)| !result.as_ref().is_err_and(RegistryError::is_not_found));
        }
        settled(&action, results).map(drop)
    }

    pub(super) async fn start_upload(&self, repository: &Repository) -> Result<Box<dyn Upload>> {
        let action = format!("starting an upload to {repository}");
        let call = |registry: Arc<dyn Registry>| async move { registry.start_upload(repository).await };
        Joint::open(repository, settled(&action, self.everywhere(call).await)?)
    }

    pub(super) async fn resume_upload(&self, repository: &Repository, id: &UploadId) -> Result<Box<dyn Upload>> {
        let action = format!("resuming an upload to {repository}");
        let mut parts = Vec::new();
        // Sessions are only ever opened where one writes; an id that says otherwise is not one of ours.
        for (at, id) in upload::split(id, self.writers().count(), &action)? {
            parts.push((at, self.members[at].registry.resume_upload(repository, &id).await?));
        }
        Joint::open(repository, parts)
    }

    pub(super) async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Mount> {
        let action = format!("mounting {digest} to {repository}");
        let call = |registry: Arc<dyn Registry>| async move { registry.mount_blob(repository, digest, from).await };
        let mut sessions = Vec::new();
        for (at, mount) in settled(&action, self.everywhere(call).await)? {
            if let Mount::Session(upload) = mount {
                sessions.push((at, upload));
            }
        }
        // Only the registries that lack the blob get its bytes.
        if sessions.is_empty() { Ok(Mount::Mounted) } else { Ok(Mount::Session(Joint::open(repository, sessions)?)) }
    }
}

/// All answers, if none is a failure; if only some are, which.
pub(super) fn settled<T>(action: &str, results: Vec<(usize, Result<T>)>) -> Result<Vec<(usize, T)>> {
    let (mut answers, mut failed, mut failure) = (Vec::new(), Vec::new(), None);
    for (at, result) in results {
        match result {
            Ok(answer) => answers.push((at, answer)),
            Err(error) => {
                failed.push(at);
                failure = Some(merged(failure, error));
            }
        }
    }
    match failure {
        None if answers.is_empty() => Err(RegistryError::unsupported(action)),
        None => Ok(answers),
        // Whoever stopped it does not ask how far it got.
        Some(error @ RegistryError::Cancelled { .. }) => Err(error),
        Some(error) if answers.is_empty() => Err(error),
        Some(error) => {
            let succeeded = answers.into_iter().map(|(at, _)| at).collect();
            Err(RegistryError::Partial { action: action.into(), succeeded, failed, source: Box::new(error) })
        }
    }
}
