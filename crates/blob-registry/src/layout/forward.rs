//! Types that are a registry because one of their fields is.

/// Implements [`Registry`](crate::Registry) for a type by handing every method to a field of it.
macro_rules! registry_through {
    ($type:ty, $field:ident) => {
        #[deny(clippy::missing_trait_methods)]
        #[async_trait::async_trait]
        impl $crate::Registry for $type {
            async fn resolve(
                &self,
                repository: &$crate::Repository,
                target: &$crate::Target,
            ) -> Result<$crate::Descriptor, $crate::RegistryError> {
                self.$field.resolve(repository, target).await
            }
            async fn manifest(
                &self,
                repository: &$crate::Repository,
                target: &$crate::Target,
            ) -> Result<$crate::Manifest, $crate::RegistryError> {
                self.$field.manifest(repository, target).await
            }
            async fn stat_blob(
                &self,
                repository: &$crate::Repository,
                digest: &blob_core::Digest,
            ) -> Result<u64, $crate::RegistryError> {
                self.$field.stat_blob(repository, digest).await
            }
            async fn read_blob(
                &self,
                repository: &$crate::Repository,
                digest: &blob_core::Digest,
                range: Option<std::ops::Range<u64>>,
            ) -> Result<$crate::BlobReader, $crate::RegistryError> {
                self.$field.read_blob(repository, digest, range).await
            }
            async fn local_blob(
                &self,
                repository: &$crate::Repository,
                digest: &blob_core::Digest,
            ) -> Result<Option<std::sync::Arc<dyn blob_core::ByteSource>>, $crate::RegistryError> {
                self.$field.local_blob(repository, digest).await
            }
            async fn push_blob(
                &self,
                repository: &$crate::Repository,
                blob: $crate::PushBlob,
            ) -> Result<$crate::PushedBlob, $crate::RegistryError> {
                self.$field.push_blob(repository, blob).await
            }
            async fn start_upload(
                &self,
                repository: &$crate::Repository,
            ) -> Result<Box<dyn $crate::Upload>, $crate::RegistryError> {
                self.$field.start_upload(repository).await
            }
            async fn resume_upload(
                &self,
                repository: &$crate::Repository,
                id: &$crate::UploadId,
            ) -> Result<Box<dyn $crate::Upload>, $crate::RegistryError> {
                self.$field.resume_upload(repository, id).await
            }
            async fn mount_blob(
                &self,
                repository: &$crate::Repository,
                digest: &blob_core::Digest,
                from: Option<&$crate::Repository>,
            ) -> Result<$crate::Mount, $crate::RegistryError> {
                self.$field.mount_blob(repository, digest, from).await
            }
            async fn push_manifest(
                &self,
                repository: &$crate::Repository,
                manifest: $crate::PushManifest,
            ) -> Result<$crate::PushedManifest, $crate::RegistryError> {
                self.$field.push_manifest(repository, manifest).await
            }
            async fn delete_manifest(
                &self,
                repository: &$crate::Repository,
                digest: &blob_core::Digest,
            ) -> Result<(), $crate::RegistryError> {
                self.$field.delete_manifest(repository, digest).await
            }
            async fn delete_blob(
                &self,
                repository: &$crate::Repository,
                digest: &blob_core::Digest,
            ) -> Result<(), $crate::RegistryError> {
                self.$field.delete_blob(repository, digest).await
            }
            async fn delete_tag(
                &self,
                repository: &$crate::Repository,
                tag: &$crate::Tag,
            ) -> Result<(), $crate::RegistryError> {
                self.$field.delete_tag(repository, tag).await
            }
            async fn tags(
                &self,
                repository: &$crate::Repository,
                page: &$crate::PageRequest,
            ) -> Result<$crate::Page<$crate::Tag>, $crate::RegistryError> {
                self.$field.tags(repository, page).await
            }
            async fn referrers(
                &self,
                repository: &$crate::Repository,
                subject: &blob_core::Digest,
                artifact_type: Option<&str>,
                page: &$crate::PageRequest,
            ) -> Result<$crate::Page<$crate::Descriptor>, $crate::RegistryError> {
                self.$field.referrers(repository, subject, artifact_type, page).await
            }
            async fn repositories(
                &self,
                page: &$crate::PageRequest,
            ) -> Result<$crate::Page<$crate::Repository>, $crate::RegistryError> {
                self.$field.repositories(page).await
            }
        }
    };
}

pub(super) use registry_through;
