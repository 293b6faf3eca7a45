//! The door: what was admitted, and nothing else.

use std::error::Error;

use blob_registry::{Descriptor, ManifestError, Outline};
use bytes::Bytes;

use crate::error::AdmitError;
use crate::policy::{Policy, Report, Subject};

/// Something that is read from a manifest's bytes.
pub trait FromManifest: Sized {
    /// Why the bytes are not one.
    type Error: Error + Send + Sync + 'static;

    /// Reads the bytes of a manifest, whose digest was checked.
    ///
    /// # Errors
    /// When they are something else.
    fn from_manifest(descriptor: &Descriptor, bytes: &Bytes) -> Result<Self, Self::Error>;
}

impl FromManifest for Outline {
    type Error = ManifestError;

    fn from_manifest(_: &Descriptor, bytes: &Bytes) -> Result<Self, ManifestError> {
        Self::parse(bytes)
    }
}

/// A `T` read from a manifest that was admitted.
///
/// There are two ways to one: [`admit`], and [`admit_without_verification`], which records that nobody looked.
#[derive(Clone, Debug)]
pub struct Trusted<T> {
    value: T,
    report: Option<Report>,
}

impl<T> Trusted<T> {
    /// What was read.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// What was read, without the door.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Whether a policy admitted it.
    pub fn is_verified(&self) -> bool {
        self.report.is_some()
    }

    /// What the policy checked; `None` if none was asked.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

impl<T> std::ops::Deref for Trusted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Asks `policy` and, if it admits, reads a `T` from the very bytes that it judged.
///
/// # Errors
/// [`AdmitError`].
pub async fn admit<T: FromManifest>(
    policy: &dyn Policy,
    subject: &Subject<'_>,
) -> Result<Trusted<T>, AdmitError<T::Error>> {
    let report = policy.evaluate(subject).await.map_err(AdmitError::Policy)?;
    let value = T::from_manifest(subject.descriptor(), subject.bytes()).map_err(AdmitError::Manifest)?;
    Ok(Trusted { value, report: Some(report) })
}

/// Lets a manifest in that nobody judged, and records that.
///
/// # Errors
/// When the bytes are not a `T`.
pub fn admit_without_verification<T: FromManifest>(subject: &Subject<'_>) -> Result<Trusted<T>, T::Error> {
    Ok(Trusted { value: T::from_manifest(subject.descriptor(), subject.bytes())?, report: None })
}
