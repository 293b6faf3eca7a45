//! Members that are one thing or a list of them, and members that may be absent but not empty.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};

use crate::sigstore::Pattern;

/// One `T`, or a list of at least one.
pub(super) fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct OneOrMany<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one or a list")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![T::deserialize(text.into_deserializer())?])
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            Ok(vec![T::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            let list = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
            if list.is_empty() { Err(A::Error::custom("the list is empty")) } else { Ok(list) }
        }
    }
    deserializer.deserialize_any(OneOrMany(PhantomData))
}

/// A member that, where it is written, has a value.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A text that passes a check; the place of an error is that of the text.
pub(super) fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    check: fn(&str) -> Result<(), String>,
) -> Result<String, D::Error> {
    struct Checked(fn(&str) -> Result<(), String>);
    impl Visitor<'_> for Checked {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            (self.0)(text).map_err(E::custom)?;
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_str(Checked(check))
}

fn is_glob(text: &str) -> Result<(), String> {
    Pattern::glob(text).map(drop).map_err(|error| with_cause(&error))
}

/// Text that is not empty.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let check = |text: &str| if text.is_empty() { Err("the value is empty".to_owned()) } else { Ok(()) };
    checked(deserializer, check).map(Some)
}

/// Text with wildcards that can be used.
pub(super) fn glob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    checked(deserializer, is_glob).map(Some)
}

/// One text with wildcards, or a list.
pub(super) fn globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Glob(String);
    impl<'de> Deserialize<'de> for Glob {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            checked(deserializer, is_glob).map(Self)
        }
    }
    Ok(one_or_many::<D, Glob>(deserializer)?.into_iter().map(|glob| glob.0).collect())
}

/// A regular expression that can be used.
pub(super) fn regex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let check = |text: &str| Pattern::regex(text).map(drop).map_err(|error| with_cause(&error));
    checked(deserializer, check).map(Some)
}

/// An error and its cause on one line, since what reads this keeps only text.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| cause.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
