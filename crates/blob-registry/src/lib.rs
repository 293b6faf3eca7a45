//! OCI registries: client, server, memory and disk layout as one trait.
#![doc = include_str!("../README.md")]

#[cfg(feature = "client")]
pub mod client;
pub mod descriptor;
pub mod error;
pub mod manifest;
pub mod reference;
pub mod registry;

pub use descriptor::{Descriptor, EMPTY_JSON, media_type};
pub use error::{ErrorCode, RegistryError};
pub use manifest::{ImageIndex, ImageManifest, ManifestError, Outline};
pub use reference::{Reference, ReferenceError, Repository, Tag, Target};
pub use registry::{
    BlobReader, MAX_MANIFEST_BYTES, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob,
    PushedManifest, Registry, Upload, UploadId,
};
