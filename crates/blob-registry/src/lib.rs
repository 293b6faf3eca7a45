//! OCI registries: client, server, memory and disk layout as one trait.
#![doc = include_str!("../README.md")]

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod copy;
pub mod descriptor;
#[cfg(unix)]
pub mod download;
pub mod error;
pub mod ext;
pub mod filter;
pub mod kind;
#[cfg(feature = "layout")]
pub mod layout;
pub mod manifest;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "oci-client")]
pub mod oci_client;
#[cfg(feature = "oci-spec")]
mod oci_spec;
pub mod reference;
pub mod referrers;
pub mod registry;
#[cfg(feature = "server")]
pub mod server;
pub mod source;
#[cfg(any(feature = "memory", feature = "layout"))]
mod store;
#[cfg(any(feature = "memory", feature = "layout", feature = "server"))]
mod token;
pub mod unify;

pub use copy::{CopiedBlobs, CopyOptions, CopyReport, Place, copy};
pub use descriptor::{Descriptor, EMPTY_JSON, media_type};
#[cfg(unix)]
pub use download::{DownloadOptions, Downloaded, download};
pub use error::{ErrorCode, RegistryError};
pub use ext::{Listing, RegistryExt};
pub use kind::{Kind, KindHint, Kinds, resolve_any};
#[cfg(feature = "layout")]
pub use layout::{LayoutFile, LayoutRegistry, LayoutStore};
pub use manifest::{ImageIndex, ImageManifest, ManifestError, Outline};
#[cfg(feature = "memory")]
pub use memory::MemoryRegistry;
pub use reference::{Reference, ReferenceError, Repository, Tag, Target};
pub use referrers::{ReferrerLimits, ReferrersError, VerifiedReferrer, VerifiedReferrers, verified_referrers};
pub use registry::{
    BlobReader, MAX_MANIFEST_BYTES, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob,
    PushedManifest, Registry, Upload, UploadId,
};
#[cfg(feature = "server")]
pub use server::{Server, ServerHandle};
pub use source::BlobSource;
pub use unify::{ReadPolicy, TagPolicy, Unify, UnifyOptions, WritePolicy};
