//! Lengths of time that people type.

use std::time::Duration;

/// Reads `90` (seconds), `30s`, `500ms`, `5m`, `1h30m`, `7d`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: expected seconds, or 90s, 5m, 1h30m, 2d");
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &rest[digits..digits + unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[digits + unit..];
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_can_be_typed() {
        for (text, expected) in [
            ("0", Some(0)),
            ("90", Some(90)),
            (" 30s ", Some(30)),
            ("5m", Some(300)),
            ("5m0s", Some(300)),
            ("1h30m", Some(5400)),
            ("7d", Some(604_800)),
            ("", None),
            ("m", None),
            ("-5m", None),
            ("+5m", None),
            ("1h30", None),
            ("m5", None),
            ("5 m", None),
            ("5w", None),
            ("1.5h", None),
            ("99999999999999999999s", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(parse(text).ok(), expected.map(Duration::from_secs), "{text:?}");
        }
    }
}
