//! Registries that stand in front of another one and change what it lets through.
//!
//! Each wraps an `Arc<dyn Registry>` and is a registry itself, so they stack in any order and serve, copy and unify like
//! any other. Every one forwards or judges every method of the trait by name; a method that is added to the trait and
//! not to a wrapper is a lint error, never an open door.
//!
//! | wrapper | what it does |
//! |---|---|
//! | [`ReadOnly`] | nothing is written or deleted |
//! | [`Immutable`] | a tag is set once; nothing is deleted |
//! | [`Prefix`] | the repositories below a name, as if it were the root |
//! | [`Delegate`] | other registries below names of this one |
//! | [`Select`] | some repositories are not there |
//! | [`Access`] | a function decides about every call |
//! | [`Limit`] | nothing over a size comes in |
//! | [`Quota`] | so many bytes come in, and no more |
//! | [`Log`] | every call is told to `tracing` |
//! | [`Fault`] | calls fail, for tests |

mod access;
pub(crate) mod catalog;
mod delegate;
mod fault;
mod immutable;
mod limit;
mod log;
mod prefix;
mod quota;
mod read_only;
mod select;

pub use access::{Access, AccessKind};
pub use delegate::Delegate;
pub use fault::{Fault, Faults};
pub use immutable::Immutable;
pub use limit::{Limit, Sizes};
pub use log::Log;
pub use prefix::Prefix;
pub use quota::{Quota, Quotas, Usage};
pub use read_only::ReadOnly;
pub use select::Select;

/// What every wrapper names.
mod prelude {
    pub(super) use std::fmt;
    pub(super) use std::ops::Range;
    pub(super) use std::sync::Arc;

    pub(super) use async_trait::async_trait;
    pub(super) use blob_core::{ByteSource, Digest};

    pub(super) use crate::descriptor::Descriptor;
    pub(super) use crate::error::{ErrorCode, RegistryError};
    pub(super) use crate::reference::{Repository, Tag, Target};
    pub(super) use crate::registry::{
        BlobReader, Manifest, Mount, Page, PageRequest, PushBlob, PushManifest, PushedBlob, PushedManifest, Registry,
        Upload, UploadId,
    };

    pub(super) type Result<T> = std::result::Result<T, RegistryError>;
}
