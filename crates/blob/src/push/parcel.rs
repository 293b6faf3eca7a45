//! The blobs of a push, and how far the registry's word for them counts.

use std::sync::Arc;

use blob_core::{ByteSource, Digest};
use blob_registry::{ErrorCode, PushBlob, PushedBlob, RegistryError};
use futures_util::future::try_join_all;

use super::{Destination, PushOptions};
use crate::error::Error;

/// A blob to push.
pub(super) struct Parcel {
    pub(super) what: &'static str,
    pub(super) digest: Digest,
    pub(super) source: Arc<dyn ByteSource>,
}

/// Whether a registry is asked for a blob before it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// It has it: a manifest there names it.
    Known,
    /// It may have it.
    Asked,
    /// It has it not, whatever it says when asked.
    Moot,
}

impl Destination {
    /// Sends one blob, if need be.
    pub(super) async fn deliver(
        &self,
        parcel: &Parcel,
        question: Question,
        options: &PushOptions,
    ) -> Result<PushedBlob, Error> {
        if question == Question::Known {
            return Ok(PushedBlob::Existing);
        }
        if options.dry_run {
            return self.would_push(&parcel.digest).await;
        }
        let mut blob = PushBlob::new(parcel.digest, Arc::clone(&parcel.source));
        blob.known_absent = question == Question::Moot;
        blob.mount_from.clone_from(&options.mount_from);
        blob.progress = options.progress.clone().map(|progress| (parcel.what.to_owned(), progress));
        self.registry.push_blob(&self.repository, blob).await.map_err(|source| self.failed(source))
    }

    /// Sends what a registry lost, after it refused a manifest for its sake. The first time what it names is sent, and the
    /// rest asked for once more; a registry that says that it has everything, or refuses `again`, is sent everything.
    pub(super) async fn deliver_again(
        &self,
        parcels: &[Parcel],
        outcomes: &mut [PushedBlob],
        (refusal, again): (&RegistryError, bool),
        options: &PushOptions,
    ) -> Result<(), Error> {
        let believed = || parcels.iter().zip(0..).filter(|(_, at)| outcomes[*at] != PushedBlob::Uploaded);
        let send = |everything: bool| {
            let work = believed().map(move |(parcel, at)| async move {
                let named = refusal.names(&parcel.digest);
                let question = if everything || named { Question::Moot } else { Question::Asked };
                Ok::<_, Error>((at, self.deliver(parcel, question, options).await?))
            });
            try_join_all(work)
        };
        let mut found = send(again).await?;
        if found.iter().all(|(_, outcome)| *outcome == PushedBlob::Existing) {
            found = send(true).await?;
        }
        for (at, outcome) in found {
            if outcome != PushedBlob::Existing {
                tracing::warn!(blob = %parcels[at].digest, repository = %self.repository, "the registry had lost it");
            }
            outcomes[at] = outcome;
        }
        Ok(())
    }

    /// What a push of this blob would come to.
    async fn would_push(&self, digest: &Digest) -> Result<PushedBlob, Error> {
        match self.registry.stat_blob(&self.repository, digest).await {
            Ok(_) => Ok(PushedBlob::Existing),
            Err(error) if error.is_not_found() || error.error_code() == ErrorCode::Denied => Ok(PushedBlob::Uploaded),
            Err(source) => Err(self.failed(source)),
        }
    }
}

/// The refusal of a manifest for the sake of what it names and the registry has not; `None` for other failures.
pub(super) fn misses_content(error: Error) -> Result<RegistryError, Error> {
    match error {
        Error::Registry { source, .. } | Error::SomeTags { source, .. } if source.misses_content() => Ok(source),
        other => Err(other),
    }
}
