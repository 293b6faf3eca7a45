//! Who signed, as the verified certificate or the key says.

use std::fmt;

use sigstore_crypto::{CertificateInfo, SubjectAltName};

/// Who made a verified signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signer {
    /// The holder of a certificate.
    Certificate(Box<CertificateSigner>),
    /// The holder of a managed key.
    Key {
        /// The key's identifier: lower-case hexadecimal SHA-256 of its DER `SubjectPublicKeyInfo`.
        id: String,
    },
}

/// What a verified certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSigner {
    /// The identity.
    pub san: San,
    /// The OpenID Connect issuer that vouched for the identity to the authority.
    pub issuer: String,
    /// What else the authority wrote about the workload that signed.
    pub claims: CertificateClaims,
}

/// The subject alternative name, with its kind: an e-mail address is never mistaken for a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum San {
    /// An e-mail address.
    Email(String),
    /// A URI.
    Uri(String),
}

impl San {
    /// The name without its kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email(text) | Self::Uri(text) => text,
        }
    }
}

/// One extension of a certificate: its number below 1.3.6.1.4.1.57264.1, its name here, and what it is.
macro_rules! claims {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Certificate extensions about the workload that signed; absent ones are `None`.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct CertificateClaims {
            $($(#[$doc])* pub $name: Option<String>,)*
        }

        impl CertificateClaims {
            /// The claim of this name (that of the field), if the certificate has it.
            pub fn named(&self, name: &str) -> Option<&str> {
                match name {
                    $(stringify!($name) => self.$name.as_deref(),)*
                    _ => None,
                }
            }

            /// The names of all claims, whether present or not.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            fn read(info: &CertificateInfo) -> Self {
                Self { $($name: info.ci_claims.$name.clone(),)* }
            }
        }
    };
}

claims! {
    /// The build configuration that asked for the certificate, with its ref: for GitHub the workflow that signed, which
    /// is the called one where workflows call each other.
    build_signer_uri,
    /// The commit of that configuration.
    build_signer_digest,
    /// `github-hosted`, `self-hosted` …
    runner_environment,
    /// The repository that was built.
    source_repository_uri,
    /// The commit that was built.
    source_repository_digest,
    /// The ref that was built, such as `refs/heads/main`.
    source_repository_ref,
    /// The provider's number for the repository; survives renaming, so nobody else can take it.
    source_repository_identifier,
    /// The owner of the repository.
    source_repository_owner_uri,
    /// The provider's number for the owner.
    source_repository_owner_identifier,
    /// The build configuration that was started: the calling workflow where workflows call each other.
    build_config_uri,
    /// The commit of that configuration.
    build_config_digest,
    /// What started the build: `push`, `release` …
    build_trigger,
    /// The run.
    run_invocation_uri,
    /// `public`, `private` or `internal`, when it signed.
    source_repository_visibility_at_signing,
    /// The deployment environment, which may have its own protection rules.
    deployment_environment,
}

impl CertificateSigner {
    /// What a certificate says that nobody verified; `None` if it is not one, or names nobody.
    #[cfg(feature = "sign")]
    pub(crate) fn of(certificate: &sigstore_types::DerCertificate) -> Option<Self> {
        Self::read(&sigstore_crypto::parse_certificate_info(certificate).ok()?)
    }

    /// What a certificate says; `None` without identity or issuer.
    pub(super) fn read(info: &CertificateInfo) -> Option<Self> {
        let san = match info.identity.as_ref()? {
            SubjectAltName::Email(text) => San::Email(text.clone()),
            SubjectAltName::Uri(text) => San::Uri(text.clone()),
            _ => return None,
        };
        Some(Self { san, issuer: info.issuer.clone()?, claims: CertificateClaims::read(info) })
    }
}

impl Signer {
    /// Who it is, where signers are counted: a key, or somebody with a name. A workflow is the same at whatever ref it runs,
    /// as long as it is for the same repository; an address is that of one person, whoever vouches for it.
    pub(super) fn holder(&self) -> String {
        match self {
            Self::Key { id } => format!("key {id}"),
            Self::Certificate(signer) => {
                let name = match &signer.san {
                    San::Email(address) => return format!("address {}", address.to_lowercase()),
                    San::Uri(uri) => without_ref(uri),
                };
                format!("{:?} {name:?} {:?}", signer.issuer, signer.claims.source_repository_uri)
            }
        }
    }
}

/// The name of a workflow without what it was at: a ref or a commit.
fn without_ref(uri: &str) -> &str {
    let is_commit = |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (uri.split_once("@refs/"), uri.rsplit_once('@')) {
        (Some((name, _)), _) => name,
        (None, Some((name, at))) if is_commit(at) => name,
        _ => uri,
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(signer) => write!(f, "{} (issuer {})", signer.san.as_str(), signer.issuer),
            Self::Key { id } => write!(f, "the key {id}"),
        }
    }
}
