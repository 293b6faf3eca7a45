//! Lengths of time that people type.

use std::time::Duration;

/// Reads `90` (seconds), `30s`, `5m`, `1h30m`, `7d`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a length of time: expected seconds, or numbers with s, m, h or d");
    let mut rest = text.trim();
    let mut total = 0_u64;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let factor = match &rest[digits..digits + unit] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[digits + unit..];
        if rest.is_empty() {
            return Ok(Duration::from_secs(total));
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
