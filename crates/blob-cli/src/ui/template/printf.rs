//! `printf`.

use std::fmt::Write as _;
use std::str::Chars;

use serde_json::Value;

use super::text::{kind, shown};

/// The widest column, and the most digits.
const MAX_WIDTH: usize = 1000;

/// What stands between `%` and the letter.
#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    /// Takes it off `rest`, with the letter.
    fn read(rest: &mut Chars<'_>) -> Result<(Self, char), String> {
        let mut spec = Self::default();
        loop {
            let before = rest.clone();
            match rest.next().ok_or("printf: % ends the text")? {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '0' => spec.zeros = true,
                '1'..='9' => {
                    *rest = before;
                    spec.width = number(rest)?;
                }
                '.' => spec.precision = Some(number(rest)?),
                letter => return Ok((spec, letter)),
            }
        }
    }

    fn write(&self, letter: char, value: &Value) -> Result<String, String> {
        let precision = self.precision.unwrap_or(6);
        let written = match (letter, value) {
            // What is nothing is written as nothing.
            (_, Value::Null) => String::new(),
            ('s' | 'v', value) => shown(value),
            ('d', Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            ('x', Value::Number(number)) if number.is_u64() => format!("{:x}", number.as_u64().unwrap_or_default()),
            ('X', Value::Number(number)) if number.is_u64() => format!("{:X}", number.as_u64().unwrap_or_default()),
            ('o', Value::Number(number)) if number.is_u64() => format!("{:o}", number.as_u64().unwrap_or_default()),
            ('x', Value::String(text)) => text.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
            ('f', Value::Number(number)) => format!("{:.precision$}", number.as_f64().unwrap_or_default()),
            ('t', Value::Bool(truth)) => truth.to_string(),
            ('q', value) => Value::String(shown(value)).to_string(),
            ('d' | 'x' | 'X' | 'o' | 'f', other) => {
                return Err(format!("printf: %{letter} is for numbers, not {}", kind(other)));
            }
            ('t', other) => return Err(format!("printf: %t is for true and false, not {}", kind(other))),
            _ => {
                return Err(format!(
                    "printf: %{letter} is not known; known are %s, %v, %d, %q, %f, %t, %x, %X, %o and %%"
                ));
            }
        };
        Ok(match (value, self.precision) {
            (Value::Number(number), _) if self.plus && number.as_f64().is_some_and(|it| it >= 0.0) => {
                format!("+{written}")
            }
            (Value::String(_), Some(most)) if letter != 'q' => written.chars().take(most).collect(),
            _ => written,
        })
    }

    fn pad(&self, written: &str, text: &mut String) {
        let width = self.width;
        let signed = written.starts_with(['-', '+']);
        let _ = match self {
            Self { left: true, .. } => write!(text, "{written:<width$}"),
            Self { zeros: true, .. } if signed => {
                write!(text, "{}{:0>2$}", &written[..1], &written[1..], width.saturating_sub(1))
            }
            Self { zeros: true, .. } => write!(text, "{written:0>width$}"),
            _ => write!(text, "{written:>width$}"),
        };
    }
}

/// Takes digits off `rest`.
fn number(rest: &mut Chars<'_>) -> Result<usize, String> {
    let mut number = 0;
    while let Some(digit) = rest.clone().next().and_then(|letter| letter.to_digit(10)) {
        rest.next();
        number = number * 10 + digit as usize;
        if number > MAX_WIDTH {
            return Err(format!("printf: a width of more than {MAX_WIDTH}"));
        }
    }
    Ok(number)
}

/// `format` with `values` in it: `%s` and `%v` anything, `%q` in quotes, `%d`, `%x`, `%o` and `%f` numbers, `%t` true or
/// false, `%%` itself; with widths and precisions as in `%8d`, `%-20s`, `%08d`, `%.2f`.
pub(super) fn printf(format: &str, values: &[&Value]) -> Result<String, String> {
    let (mut text, mut rest, mut values) = (String::new(), format.chars(), values.iter());
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let (spec, letter) = Spec::read(&mut rest)?;
        if letter == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("printf: nothing is given for %{letter}"))?;
        spec.pad(&spec.write(letter, value)?, &mut text);
    }
    match values.next() {
        Some(extra) => Err(format!("printf: {} is given, and nothing in the text is for it", kind(extra))),
        None => Ok(text),
    }
}
