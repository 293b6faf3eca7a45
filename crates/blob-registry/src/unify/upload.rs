//! An upload session in several registries at once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blob_core::Digest;
use bytes::Bytes;
use futures_util::future;

use super::write::settled;
use super::{RegistryError, Repository, Result, Upload, UploadId, async_trait};
use crate::error::ErrorCode;

/// Sessions that are kept in step.
pub(super) struct Joint {
    repository: Repository,
    /// Never empty; with the position of each registry.
    parts: Vec<(usize, Box<dyn Upload>)>,
}

impl Joint {
    /// One session of several. They must hold the same number of bytes.
    pub(super) fn open(repository: &Repository, parts: Vec<(usize, Box<dyn Upload>)>) -> Result<Box<dyn Upload>> {
        let action = || format!("uploading to {repository}");
        let offsets: Vec<u64> = parts.iter().map(|(_, part)| part.offset()).collect();
        if offsets.windows(2).any(|pair| pair[0] != pair[1]) {
            let detail = format!("the registries hold {offsets:?} bytes: an append reached only some of them");
            return Err(RegistryError::detailed(action(), ErrorCode::BlobUploadInvalid, detail));
        }
        if parts.is_empty() {
            return Err(RegistryError::code(action(), ErrorCode::BlobUploadUnknown));
        }
        Ok(Box::new(Self { repository: repository.clone(), parts }))
    }

    fn action(&self) -> String {
        format!("uploading to {}", self.repository)
    }
}

/// Takes apart what [`Joint`]'s ids are made of: `POSITION.ID` for each session, joined by `~`, the ids in base64.
/// `writers` is how many registries there are sessions in.
pub(super) fn split(id: &UploadId, writers: usize, action: &str) -> Result<Vec<(usize, UploadId)>> {
    let part = |part: &str| {
        let (at, id) = part.split_once('.')?;
        let at = at.parse().ok().filter(|at| *at < writers)?;
        let id = String::from_utf8(URL_SAFE_NO_PAD.decode(id).ok()?).ok()?;
        Some((at, UploadId::new(id)))
    };
    let parts: Option<Vec<(usize, UploadId)>> = id.as_str().split('~').map(part).collect();
    let ascending = |parts: &Vec<(usize, UploadId)>| parts.is_sorted_by(|a, b| a.0 < b.0);
    parts.filter(ascending).ok_or_else(|| RegistryError::code(action, ErrorCode::BlobUploadUnknown))
}

#[async_trait]
impl Upload for Joint {
    fn id(&self) -> UploadId {
        let part =
            |(at, part): &(usize, Box<dyn Upload>)| format!("{at}.{}", URL_SAFE_NO_PAD.encode(part.id().as_str()));
        UploadId::new(self.parts.iter().map(part).collect::<Vec<_>>().join("~"))
    }

    fn offset(&self) -> u64 {
        self.parts.iter().map(|(_, part)| part.offset()).min().unwrap_or(0)
    }

    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let action = self.action();
        let calls = self.parts.iter_mut().map(|(at, part)| {
            let (at, bytes) = (*at, bytes.clone());
            async move { (at, part.append(bytes).await) }
        });
        settled(&action, future::join_all(calls).await).map(drop)
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()> {
        let action = self.action();
        let calls = self.parts.into_iter().map(|(at, part)| async move { (at, part.commit(digest).await) });
        settled(&action, future::join_all(calls).await).map(drop)
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        let action = self.action();
        let calls = self.parts.into_iter().map(|(at, part)| async move { (at, part.cancel().await) });
        settled(&action, future::join_all(calls).await).map(drop)
    }
}
