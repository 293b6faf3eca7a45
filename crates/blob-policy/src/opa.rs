//! Rego policies over verified bundles (package `blob.policy`).
//!
//! The rules see the manifest and what signers *whom one named* said about it, after every check of
//! [`sigstore`](crate::sigstore). They have no network, clock or environment. `allow` must be exactly `true`; `deny`, if it is
//! there, must be empty; `warn` goes into the report. Undefined, an error, or a package that is not there refuses.
//!
//! ```
//! use blob_policy::opa::OpaPolicy;
//! use blob_policy::sigstore::{Identity, Trust, TrustRoot};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rules = r#"
//!     package blob.policy
//!     allow if {
//!         some claim in input.attestations
//!         claim.predicateType == "https://slsa.dev/provenance/v1"
//!         startswith(claim.signature.certificate.source_repository_ref, "refs/tags/")
//!     }
//! "#;
//! let release = Identity::github_actions("acme/app")?.into();
//! let policy = OpaPolicy::new(Trust::Certificates(TrustRoot::production()?), vec![release], &[("release.rego", rules)])?;
//! # let _ = policy;
//! # Ok(())
//! # }
//! ```

mod input;
mod nesting;

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use futures_channel::oneshot;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use crate::error::PolicyError;
use crate::policy::{Check, Policy, Report, Subject};
use crate::sigstore::{Claims, Identity, Signer, SigstoreLimits, Trust, VerifiedClaim};

/// The package whose rules decide.
pub const PACKAGE: &str = "data.blob.policy";
/// Bytes of one module at most: 1 MiB.
pub const MAX_MODULE_BYTES: usize = 1 << 20;
/// Brackets within brackets at most; the parser takes exponential time in them.
pub const MAX_NESTING: usize = 10;
/// Bytes of the input document at most: 32 MiB.
pub const MAX_INPUT_BYTES: usize = 32 << 20;

const NAME: &str = "opa";
/// How much longer than twice their time rules are waited for, on a machine that does much else.
const GRACE: Duration = Duration::from_secs(2);

/// Admits what rules in Rego allow.
#[derive(Clone)]
pub struct OpaPolicy {
    engine: Engine,
    packages: Vec<String>,
    time_limit: Duration,
    trust: Trust,
    identities: Vec<Identity>,
    limits: SigstoreLimits,
}

/// Rules that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpaError {
    /// Certificates are trusted, and no identity is named: anybody in the world could make a claim.
    #[error("no signer is named")]
    NoSigner,
    /// No module is of the package that decides.
    #[error("no module is of the package blob.policy")]
    NoPackage,
    /// Too large.
    #[error("the module {name:?} has {got} bytes, more than {MAX_MODULE_BYTES}")]
    TooLarge {
        /// The module.
        name: String,
        /// Its bytes.
        got: usize,
    },
    /// Brackets are nested too deeply to be parsed.
    #[error("the module {name:?} nests brackets more than {MAX_NESTING} deep")]
    Nesting {
        /// The module.
        name: String,
    },
    /// Not Rego, version 1.
    #[error("the module {name:?} is not usable")]
    Module {
        /// The module.
        name: String,
        /// The cause, with line and column.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A data document that is no JSON object, or contradicts another.
    #[error("the data document is not usable")]
    Data(#[source] Box<dyn Error + Send + Sync>),
}

impl OpaPolicy {
    /// Rules in `modules` (name and text) over claims by `identities`. With managed keys there may be none: the keys say
    /// who.
    ///
    /// # Errors
    /// [`OpaError`].
    pub fn new(trust: Trust, identities: Vec<Identity>, modules: &[(&str, &str)]) -> Result<Self, OpaError> {
        if identities.is_empty() && matches!(trust, Trust::Certificates(_) | Trust::CertificatesAt(..)) {
            return Err(OpaError::NoSigner);
        }
        let mut engine = Engine::new();
        engine.set_strict_builtin_errors(true);
        let mut packages = Vec::new();
        for (name, text) in modules {
            packages.push(add_module(&mut engine, name, text)?);
        }
        if !packages.iter().any(|package| package == PACKAGE) {
            return Err(OpaError::NoPackage);
        }
        let limits = SigstoreLimits::default();
        let policy = Self { engine, packages, time_limit: Duration::ZERO, trust, identities, limits };
        Ok(policy.time_limit(Duration::from_secs(1)))
    }

    /// Adds a JSON object that the rules see as `data`. It may say nothing at or below the packages of the modules: what
    /// rules decide is never data.
    ///
    /// # Errors
    /// [`OpaError::Data`].
    pub fn data(mut self, json: &str) -> Result<Self, OpaError> {
        let document: serde_json::Value = serde_json::from_str(json).map_err(|e| OpaError::Data(e.into()))?;
        if let Some(package) = self.packages.iter().find(|package| says(&document, package)) {
            return Err(OpaError::Data(format!("it has something where the rules of {package} are").into()));
        }
        self.engine.add_data_json(json).map_err(|e| OpaError::Data(e.into()))?;
        Ok(self)
    }

    /// Looks at no more bundles than `limits`.
    #[must_use]
    pub fn limits(mut self, limits: SigstoreLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The rules stop after this long: 1 second by default. A single built-in function is not interrupted; after twice the
    /// time, and two seconds more, its answer is not waited for, and that is a refusal.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        let every = NonZeroU32::new(100).expect("because 100 is not 0");
        self.engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: every });
        self
    }

    /// Whether one of the identities made the claim.
    fn wants(&self, claim: &VerifiedClaim) -> bool {
        match claim.signer() {
            Signer::Certificate(signer) => self.identities.iter().any(|identity| identity.check(signer).is_ok()),
            Signer::Key { .. } => !matches!(self.trust, Trust::Certificates(_)),
        }
    }
}

fn add_module(engine: &mut Engine, name: &str, text: &str) -> Result<String, OpaError> {
    let name = name.to_owned();
    if text.len() > MAX_MODULE_BYTES {
        return Err(OpaError::TooLarge { name, got: text.len() });
    }
    if nesting::depth(text) > MAX_NESTING {
        return Err(OpaError::Nesting { name });
    }
    let added = engine.add_policy(name.clone(), text.to_owned());
    added.map_err(|error| OpaError::Module { name, source: without_source(&error.to_string()).into() })
}

/// What the parser says, as `line:column: what is wrong`. The line itself is left out: what is no module may be a file
/// with somebody's secrets.
fn without_source(message: &str) -> String {
    let mut lines = message.trim_start().lines();
    let place = lines.next().and_then(|first| first.strip_prefix("--> ")).map(|place| {
        let mut parts = place.rsplitn(3, ':');
        let (column, line) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{line}:{column}: ")
    });
    match place {
        // Below the place are a rule, the line, and a mark.
        Some(place) => {
            let said = lines.skip(3).map(str::trim).collect::<Vec<_>>().join(" ");
            format!("{place}{}", said.strip_prefix("error: ").unwrap_or(&said))
        }
        None => message.to_owned(),
    }
}

#[async_trait]
impl Policy for OpaPolicy {
    /// The rules run on threads of their own; dropping the future leaves them to end within their time limit.
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        fn unclear(source: impl Into<Box<dyn Error + Send + Sync>>) -> PolicyError {
            PolicyError::cannot_tell(NAME, source)
        }
        let claims = Claims::of(subject, &self.trust, &self.limits).await.map_err(unclear)?;
        // Rules may refuse because of something: what could not be read might have been that.
        if let Some(source) = &claims.unread {
            let reasons = claims.refused.iter().map(ToString::to_string).collect();
            let source = std::sync::Arc::clone(source).into();
            return Err(PolicyError::CannotTell { policy: NAME.into(), reasons, source });
        }
        let wanted: Vec<_> = claims.verified.iter().filter(|claim| self.wants(claim)).collect();
        let document = input::document(subject, &wanted).to_string();
        if document.len() > MAX_INPUT_BYTES {
            return Err(PolicyError::rejected(NAME, format!("the input has more than {MAX_INPUT_BYTES} bytes")));
        }
        let mut engine = self.engine.clone();
        let patience = self.time_limit.saturating_mul(2).saturating_add(GRACE);
        let outcome = bounded(move || run(&mut engine, &document), patience).map_err(unclear)?;
        match outcome.await.map_err(unclear)? {
            Ok(mut report) => {
                report.refused.extend(claims.refused.iter().map(ToString::to_string));
                Ok(report)
            }
            Err(mut reasons) => {
                for claim in &claims.verified {
                    let counts =
                        if self.wants(claim) { "the rules saw it" } else { "not one whose claims the rules see" };
                    reasons.push(format!("{} by {}: {counts}", claim.referrer(), claim.signer()));
                }
                reasons.extend(claims.refused.iter().map(ToString::to_string));
                Err(PolicyError::Rejected { policy: NAME.into(), reasons })
            }
        }
    }

    fn name(&self) -> String {
        NAME.into()
    }
}

/// What rules came to, or the reasons of a refusal.
type Outcome = Result<Report, Vec<String>>;

/// Judges on a thread; another waits for it, and no longer than it may take.
fn bounded(
    judge: impl FnOnce() -> Outcome + Send + 'static,
    patience: Duration,
) -> std::io::Result<oneshot::Receiver<Outcome>> {
    let ((sender, receiver), (told, telling)) = (oneshot::channel(), mpsc::channel());
    // Whoever waited may be gone when the answer comes, which is nobody's loss.
    std::thread::Builder::new().name("blob-rego".into()).spawn(move || {
        let _ = told.send(judge());
    })?;
    std::thread::Builder::new().name("blob-rego-clock".into()).spawn(move || {
        let late = || Err(vec![format!("the rules failed: they did not end within {} ms", patience.as_millis())]);
        let _ = sender.send(telling.recv_timeout(patience).unwrap_or_else(|_| late()));
    })?;
    Ok(receiver)
}

/// Whether a document says something at or below the place of a package (`data.a.b`), or has it be something else than a
/// place. Of names in brackets only what stands before them is looked at.
fn says(document: &serde_json::Value, package: &str) -> bool {
    let path = package.split('[').next().unwrap_or_default();
    let mut here = document;
    for name in path.split('.').skip(1) {
        match here {
            serde_json::Value::Object(members) => match members.get(name) {
                Some(below) => here = below,
                None => return false,
            },
            _ => return true,
        }
    }
    true
}

/// Evaluates the package; an error of the rules is a refusal like any other.
fn run(engine: &mut Engine, input: &str) -> Outcome {
    let failed = |error: &dyn fmt::Display| vec![format!("the rules failed: {error}")];
    engine.set_input_json(input).map_err(|e| failed(&e))?;
    let results = engine.eval_query(PACKAGE.to_owned(), false).map_err(|e| failed(&e))?;
    let package = results.result.first().and_then(|result| result.expressions.first()).map(|first| &first.value);
    let rules = package.and_then(|value| value.as_object().ok()).ok_or_else(|| failed(&"no rule is defined"))?;
    let rule = |name: &str| rules.get(&Value::from(name));
    let denied = rule("deny").map(messages).unwrap_or_default();
    if !denied.is_empty() {
        return Err(denied);
    }
    if rule("allow") != Some(&Value::from(true)) {
        return Err(vec!["the rules do not allow it".into()]);
    }
    let mut report = Report::admitted(NAME, "the rules allow it");
    let warnings = rule("warn").map(messages).unwrap_or_default().into_iter();
    report.checks.extend(warnings.map(|text| Check { policy: NAME.into(), finding: format!("warning: {text}") }));
    Ok(report)
}

/// What a rule says, of whatever shape: only `false` and empty collections say nothing.
fn messages(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_string().map_or_else(|_| value.to_string(), ToString::to_string);
    match value {
        Value::Bool(false) | Value::Undefined => Vec::new(),
        Value::Set(set) => set.iter().map(text).collect(),
        Value::Array(array) => array.iter().map(text).collect(),
        Value::Object(object) if object.is_empty() => Vec::new(),
        other => vec![text(other)],
    }
}

impl fmt::Debug for OpaPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaPolicy")
            .field("trust", &self.trust)
            .field("identities", &self.identities)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_waited_for_so_long_and_no_longer() {
        let (hold, held) = mpsc::channel::<()>();
        let stuck = move || {
            // Until the test is over.
            let _ = held.recv();
            Ok(Report::default())
        };
        let late = bounded(stuck, Duration::from_millis(10)).expect("there are threads");
        let reasons = waited(late).expect_err("it did not answer");
        assert!(reasons[0].contains("did not end within 10 ms"), "{reasons:?}");
        drop(hold);
        let soon = bounded(|| Ok(Report::admitted("p", "f")), Duration::from_mins(1)).expect("there are threads");
        assert_eq!(waited(soon), Ok(Report::admitted("p", "f")));
    }

    fn waited(mut outcome: oneshot::Receiver<Outcome>) -> Outcome {
        loop {
            if let Some(outcome) = outcome.try_recv().expect("it is not dropped") {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn documents_that_say_what_rules_decide() {
        for (document, expect) in [
            (r#"{"blob": {"policy": {"allow": true}}}"#, true),
            (r#"{"blob": {"policy": {}}}"#, true),
            (r#"{"blob": {"policy": null}}"#, true),
            (r#"{"blob": []}"#, true),
            (r#"{"blob": {"policies": {"allow": true}}}"#, false),
            (r#"{"policy": {"allow": true}}"#, false),
            ("{}", false),
            ("[]", true),
        ] {
            let document = serde_json::from_str(document).expect("it is JSON");
            assert_eq!(says(&document, PACKAGE), expect, "{document}");
        }
        let document = serde_json::json!({"lib": {"x": 1}});
        assert!(says(&document, "data.lib[\"a-b\"]") && !says(&document, "data.lib.y"));
    }
}
