//! The functions: Go's own, those of docker, and the few of oras that results need.

use std::borrow::Cow;

use serde_json::Value;

use super::text::{cut, in_words, is_true, kind, shown, title};
use super::{Given, compare, find, printf};
use crate::ui::near::nearest;
use crate::ui::template::sample::ANY;

macro_rules! functions {
    ($($function:ident $name:literal $least:literal $most:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function {
            $($function,)*
        }

        impl Function {
            /// Name, and how many operands there are.
            const ALL: &[(&'static str, Self, usize, usize)] = &[$(($name, Self::$function, $least, $most),)*];
        }
    };
}

functions! {
    And "and" 1 16
    Or "or" 1 16
    Not "not" 1 1
    Eq "eq" 2 16
    Ne "ne" 2 2
    Lt "lt" 2 2
    Le "le" 2 2
    Gt "gt" 2 2
    Ge "ge" 2 2
    Len "len" 1 1
    Index "index" 1 8
    Slice "slice" 1 3
    Print "print" 0 16
    Printf "printf" 1 16
    Println "println" 0 16
    Json "json" 1 1
    PrettyJson "toPrettyJson" 1 1
    Join "join" 2 2
    Split "split" 2 2
    Lower "lower" 1 1
    Upper "upper" 1 1
    Title "title" 1 1
    Trim "trim" 1 1
    Truncate "truncate" 2 2
    Pad "pad" 3 3
    Replace "replace" 3 3
    Contains "contains" 2 2
    HasPrefix "hasPrefix" 2 2
    HasSuffix "hasSuffix" 2 2
    Default "default" 2 2
}

/// The most spaces that `pad` adds on a side.
const MAX_PADDING: u64 = 1000;

impl Function {
    /// The function of this name.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        // What oras calls it.
        let name = if name == "toJson" { "json" } else { name };
        if let Some((_, function, ..)) = Self::ALL.iter().find(|(known, ..)| *known == name) {
            return Ok(*function);
        }
        let (name, names) = (cut(name), Self::ALL.iter().map(|(name, ..)| *name));
        if let Some(near) = nearest(&name, names.clone()) {
            return Err(format!("{name} is no function; did you mean {near}? Fields begin with a point: .{name}"));
        }
        let known = names.collect::<Vec<_>>().join(", ");
        Err(format!("{name} is no function, and fields begin with a point: .{name}; functions are {known}"))
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function, ..)| *function == self).map_or("", |(name, ..)| name)
    }

    /// Whether it takes `given` operands.
    pub(super) fn check_count(self, given: usize) -> Result<(), String> {
        let found = Self::ALL.iter().find(|(_, function, ..)| *function == self);
        let (least, most) = found.map_or((0, 0), |(_, _, least, most)| (*least, *most));
        match given {
            _ if (least..=most).contains(&given) => Ok(()),
            _ if least == most => Err(format!("{} takes {least} operands, not {given}", self.name())),
            _ => Err(format!("{} takes {least} to {most} operands, not {given}", self.name())),
        }
    }

    /// What it makes of `values`. In a trial lists are shorter than they will be.
    pub(super) fn apply(self, mut values: Vec<Given<'_>>, trial: bool) -> Result<Given<'_>, String> {
        if self == Self::Index {
            return index(values, trial);
        }
        if self == Self::Default {
            let value = values.pop().unwrap_or_default();
            return Ok(if is_true(&value) { value } else { values.pop().unwrap_or_default() });
        }
        let values: Vec<&Value> = values.iter().map(AsRef::as_ref).collect();
        self.on_text(&values, trial)
            .or_else(|| self.on_values(&values))
            .unwrap_or_else(|| {
                let given = values.iter().map(|value| kind(value)).collect::<Vec<_>>().join(" and ");
                Err(format!("{} does not fit {given}", self.name()))
            })
            .map(Cow::Owned)
    }

    fn on_values(self, values: &[&Value]) -> Option<Result<Value, String>> {
        Some(Ok(match (self, values) {
            (Self::Json, [value]) => value.to_string().into(),
            (Self::PrettyJson, [value]) => serde_json::to_string_pretty(value).unwrap_or_default().into(),
            (Self::Print, values) => in_words(values, false).into(),
            (Self::Println, values) => (in_words(values, true) + "\n").into(),
            (Self::Printf, [Value::String(format), values @ ..]) => {
                return Some(printf::printf(format, values).map(Value::from));
            }
            (Self::Len, [Value::Array(items)]) => items.len().into(),
            (Self::Len, [Value::Object(members)]) => members.len().into(),
            (Self::Len, [Value::String(text)]) => text.len().into(),
            (Self::Len, [Value::Null]) => 0.into(),
            (Self::Not, [value]) => (!is_true(value)).into(),
            (Self::Eq, [first, others @ ..]) => others.iter().any(|other| compare::equal(first, other)).into(),
            (Self::Ne, [left, right]) => (!compare::equal(left, right)).into(),
            (Self::Lt | Self::Le | Self::Gt | Self::Ge, [left, right]) => {
                let order = match compare::order(left, right) {
                    Ok(order) => order,
                    Err(problem) => return Some(Err(problem)),
                };
                order
                    .is_some_and(|order| match self {
                        Self::Lt => order.is_lt(),
                        Self::Le => order.is_le(),
                        Self::Gt => order.is_gt(),
                        _ => order.is_ge(),
                    })
                    .into()
            }
            (Self::Join, [Value::Array(items), Value::String(between)]) => {
                items.iter().map(shown).collect::<Vec<_>>().join(between).into()
            }
            (Self::Join, [Value::Null, _]) => "".into(),
            _ => return None,
        }))
    }

    /// Functions of texts; what is nothing is an empty one.
    fn on_text(self, values: &[&Value], trial: bool) -> Option<Result<Value, String>> {
        let text = |value: &Value| matches!(value, Value::String(_) | Value::Null).then(|| shown(value));
        let number = |value: &Value| value.as_u64();
        Some(Ok(match (self, values) {
            (Self::Upper, [value]) => shown(value).to_uppercase().into(),
            (Self::Lower, [value]) => shown(value).to_lowercase().into(),
            (Self::Title, [value]) => title(&text(value)?).into(),
            (Self::Trim, [value]) => text(value)?.trim().into(),
            (Self::Truncate, [value, most]) => {
                let most = usize::try_from(number(most)?).unwrap_or(usize::MAX);
                shown(value).chars().take(most).collect::<String>().into()
            }
            (Self::Pad, [value, before, after]) => {
                let (before, after) = (number(before)?, number(after)?);
                if before.max(after) > MAX_PADDING {
                    return Some(Err(format!("pad: more than {MAX_PADDING} blanks")));
                }
                let space = |count: u64| " ".repeat(count as usize);
                (space(before) + &shown(value) + &space(after)).into()
            }
            (Self::Split, [value, between]) => {
                let (value, between) = (text(value)?, text(between)?);
                value.split(between.as_str()).map(Value::from).collect()
            }
            // As in oras, what is looked at comes last, so that it can come through a pipe.
            (Self::Replace, [old, new, value]) => text(value)?.replace(&text(old)?, &text(new)?).into(),
            (Self::Contains, [part, value]) => text(value)?.contains(&text(part)?).into(),
            (Self::HasPrefix, [part, value]) => text(value)?.starts_with(&text(part)?).into(),
            (Self::HasSuffix, [part, value]) => text(value)?.ends_with(&text(part)?).into(),
            (Self::Slice, [value, bounds @ ..]) => return slice(value, bounds, trial),
            _ => return None,
        }))
    }
}

/// `index LIST 0`, `index MAP "key"`, and so on inwards.
fn index(values: Vec<Given<'_>>, trial: bool) -> Result<Given<'_>, String> {
    let mut values = values.into_iter();
    let first = values.next().unwrap_or_default();
    values.try_fold(first, |value, key| {
        let found = match &value {
            Cow::Borrowed(value) => item(value, &key, trial)?.map(Cow::Borrowed),
            Cow::Owned(value) => item(value, &key, trial)?.map(|found| Cow::Owned(found.clone())),
        };
        Ok(found.unwrap_or_default())
    })
}

fn item<'v>(value: &'v Value, key: &Value, trial: bool) -> Result<Option<&'v Value>, String> {
    match (value, key) {
        (Value::Null, _) => Ok(None),
        // The one item of a sample stands for all.
        (Value::Array(items), Value::Number(_) | Value::Null) if trial => Ok(items.last()),
        (Value::Array(items), Value::Number(at)) => {
            let found = at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?));
            let outside = || {
                format!(
                    "index {at} is outside of the list, which has {}",
                    crate::ui::size::count(items.len() as u64, "item")
                )
            };
            found.map(Some).ok_or_else(outside)
        }
        (Value::Object(members), Value::String(name)) => Ok(find(members, name).or_else(|| members.get(ANY))),
        (Value::Object(members), Value::Null) if trial => Ok(members.get(ANY)),
        (other, key) => Err(format!("index does not fit {} and {}", kind(other), kind(key))),
    }
}

/// `slice TEXT 7 19`, `slice LIST 1`.
fn slice(value: &Value, bounds: &[&Value], trial: bool) -> Option<Result<Value, String>> {
    let bounds: Vec<usize> = bounds.iter().map(|bound| usize::try_from(bound.as_u64()?).ok()).collect::<Option<_>>()?;
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Null => return Some(Ok(Value::Null)),
        _ => return None,
    };
    let (start, end) = match bounds.as_slice() {
        [start, end] => (*start, *end),
        bounds => (bounds.first().copied().unwrap_or(0), length),
    };
    if (start > end || end > length) && !trial {
        return Some(Err(format!("slice from {start} to {end} is outside of what has {length}")));
    }
    let taken = end.saturating_sub(start);
    Some(Ok(match value {
        Value::Array(items) => items.iter().skip(start).take(taken).cloned().collect(),
        other => shown(other).chars().skip(start).take(taken).collect::<String>().into(),
    }))
}
