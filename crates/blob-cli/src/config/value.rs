//! Values of settings that are more than a number or a text.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ui::{duration, size};

/// A number of bytes: `1048576`, `64K`, `1.5G`, `5 GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A time: seconds, or `90s`, `5m`, `1h30m`, `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duration(pub(crate) std::time::Duration);

impl Size {
    fn read(text: &str) -> Result<Self, String> {
        size::parse(text).map(Self)
    }
}

impl fmt::Display for Size {
    /// With a unit where nothing is lost by it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        match units.into_iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Duration {
    /// Reads what is typed.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        duration::parse(text).map(Self)
    }

    /// Whole seconds, at least one, so that a short time is not none.
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_secs().max(1)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut millis, mut written) = (self.0.as_millis(), false);
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")] {
            if millis >= unit {
                write!(f, "{}{name}", millis / unit)?;
                (millis, written) = (millis % unit, true);
            }
        }
        if written { Ok(()) } else { f.write_str("0s") }
    }
}

/// Reads what is true or false. Everything else is a slip, and may have been meant either way.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "0" | "false" | "no" | "off" | "n" | "f" | "" => Ok(false),
        _ => Err("expected true or false, yes or no, on or off, 1 or 0".into()),
    }
}

/// Reads a number or a text by `read`.
struct Typed<T> {
    expecting: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Typed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        (self.read)(&value.to_string()).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        (self.read)(value).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed { expecting: "a size, such as 64K or 5G", read: Self::read })
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Typed { expecting: "a time, such as 30s or 5m", read: Self::read })
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (typed, seconds, shown) in [
            ("30", 30, "30s"),
            ("90s", 90, "1m30s"),
            ("5m", 300, "5m"),
            ("1h30m", 5400, "1h30m"),
            ("2d", 172_800, "2d"),
        ] {
            let read = Duration::read(typed).unwrap();
            assert_eq!((read.0.as_secs(), read.to_string().as_str()), (seconds, shown), "{typed}");
        }
        assert_eq!(Duration::read("0").unwrap().to_string(), "0s");
        for wrong in ["", "s", "5x", "-5m", "5 m", "99999999999999999999s", "1.5h", "m5"] {
            assert!(Duration::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_neither_true_nor_false_is_refused() {
        for (text, expected) in [("true", true), ("ON", true), ("1", true), ("no", false), ("Off", false), ("", false)]
        {
            assert_eq!(truth(text), Ok(expected), "{text}");
        }
        for wrong in ["nope", "flase", "2", "truee"] {
            assert!(truth(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_keep_every_byte() {
        for (bytes, shown) in [(0, "0"), (1023, "1023"), (1 << 10, "1K"), (3 << 29, "1536M"), (5 << 30, "5G")] {
            assert_eq!(Size(bytes).to_string(), shown);
            assert_eq!(Size::read(shown).unwrap(), Size(bytes));
        }
    }

    #[test]
    fn numbers_and_texts_are_both_values() {
        assert_eq!(yaml_serde::from_str::<Size>("1024").unwrap(), Size(1024));
        assert_eq!(yaml_serde::from_str::<Size>("5 GB").unwrap(), Size(5 << 30));
        assert_eq!(yaml_serde::from_str::<Duration>("5m").unwrap().seconds(), 300);
        assert!(yaml_serde::from_str::<Size>("[1]").is_err());
        assert!(yaml_serde::from_str::<Duration>("-1").is_err());
    }
}
