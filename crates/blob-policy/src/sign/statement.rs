//! What is signed: in-toto statements about a manifest.

use std::collections::BTreeMap;

use blob_core::Digest;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::sigstore::COSIGN_SIGN_PREDICATE;

/// The largest statement that is signed, as JSON: 2 MiB, so that the bundle fits in the limit of those who read it.
pub const MAX_PREDICATE_BYTES: u64 = 2 << 20;

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// An in-toto statement about one manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    subject: Digest,
    predicate_type: String,
    predicate: Value,
    annotations: BTreeMap<String, String>,
}

/// A statement that would not be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The predicate type is not a URI.
    #[error("the predicate type {0:?} is not a URI")]
    PredicateType(String),
    /// The predicate is not an object.
    #[error("the predicate is not a JSON object but {got}")]
    Predicate {
        /// What it is.
        got: &'static str,
    },
    /// It is larger than is signed.
    #[error("the statement has {got} bytes, more than {MAX_PREDICATE_BYTES}")]
    TooLarge {
        /// Bytes of the statement.
        got: u64,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatementJson<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [SubjectJson<'a>; 1],
    predicate_type: &'a str,
    predicate: &'a Value,
}

#[derive(Serialize)]
struct SubjectJson<'a> {
    digest: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Statement {
    /// "I sign this manifest", as cosign 3 says it.
    pub fn signature(subject: Digest) -> Self {
        let predicate = Value::Object(Map::new());
        Self { subject, predicate_type: COSIGN_SIGN_PREDICATE.into(), predicate, annotations: BTreeMap::new() }
    }

    /// Any predicate about a manifest: build provenance, a scan, a bill of materials.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn attestation(
        subject: Digest,
        predicate_type: impl Into<String>,
        predicate: Value,
    ) -> Result<Self, StatementError> {
        let predicate_type = predicate_type.into();
        if url::Url::parse(&predicate_type).is_err() {
            return Err(StatementError::PredicateType(predicate_type));
        }
        let got = match &predicate {
            Value::Object(_) => {
                let statement = Self { subject, predicate_type, predicate, annotations: BTreeMap::new() };
                let got = statement.to_bytes().len() as u64;
                return if got > MAX_PREDICATE_BYTES { Err(StatementError::TooLarge { got }) } else { Ok(statement) };
            }
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
        };
        Err(StatementError::Predicate { got })
    }

    /// Says more about the subject, under the signature: what `cosign sign -a key=value` does.
    #[must_use]
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// The manifest that it is about.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// What kind of predicate it makes.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The JSON that is signed.
    pub fn to_bytes(&self) -> Bytes {
        let digest = BTreeMap::from([(self.subject.algorithm().name(), self.subject.hex())]);
        let statement = StatementJson {
            kind: STATEMENT_TYPE,
            subject: [SubjectJson { digest, annotations: &self.annotations }],
            predicate_type: &self.predicate_type,
            predicate: &self.predicate,
        };
        serde_json::to_vec(&statement).expect("strings and JSON values can be printed").into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signature_reads_as_cosign_writes_it() {
        let digest = Digest::sha256_of(b"x");
        let bytes = Statement::signature(digest).annotation("b", "2").annotation("a", "1").to_bytes();
        let expect = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}},"annotations":{{"a":"1","b":"2"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
            digest.hex()
        );
        assert_eq!(bytes, expect.as_bytes());
    }

    #[test]
    fn what_nobody_would_understand_is_refused() {
        let make = |kind: &str, predicate| Statement::attestation(Digest::sha256_of(b"x"), kind, predicate);
        assert!(make("https://example.com/p", Value::Object(Map::new())).is_ok());
        assert!(matches!(make("provenance", Value::Object(Map::new())), Err(StatementError::PredicateType(_))));
        for (predicate, expect) in [(Value::Null, "null"), (Value::from(1), "a number"), (Value::from("x"), "a string")]
        {
            assert!(matches!(make("a:b", predicate), Err(StatementError::Predicate { got }) if got == expect));
        }
        let huge = serde_json::json!({"a": "x".repeat(MAX_PREDICATE_BYTES as usize)});
        assert!(matches!(make("a:b", huge), Err(StatementError::TooLarge { .. })));
    }
}
