//! Sizes for people, and the sizes that people type.

/// `512`, `1.5K`, `1024.0K`: powers of 1024, one decimal, no unit below 1024.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let power = bytes.ilog2() / 10;
    format!("{:.1}{}", bytes as f64 / (1_u64 << (10 * power)) as f64, UNITS[power as usize - 1])
}

/// `N noun`, with an `s` unless it is one.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Reads `1024`, `64K`, `1.5G`, `5 GB`: powers of 1024.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: expected a number of bytes, with K, M, G or T");
    let trimmed = text.trim().to_ascii_uppercase();
    let bare = trimmed.strip_suffix("IB").or_else(|| trimmed.strip_suffix('B')).unwrap_or(&trimmed);
    let (digits, factor) = match bare.char_indices().next_back() {
        Some((at, 'K')) => (&bare[..at], 1_u64 << 10),
        Some((at, 'M')) => (&bare[..at], 1 << 20),
        Some((at, 'G')) => (&bare[..at], 1 << 30),
        Some((at, 'T')) => (&bare[..at], 1 << 40),
        _ => (bare, 1),
    };
    let (whole, fraction) = digits.trim_end().split_once('.').unwrap_or((digits.trim_end(), "0"));
    let number = |digits: &str| -> Option<u64> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let part = number(fraction).zip(10_u64.checked_pow(fraction.len() as u32));
    let size = number(whole).zip(part).and_then(|(whole, (part, of))| {
        let part = u128::from(part) * u128::from(factor) / u128::from(of);
        whole.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
    });
    size.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (bytes, expected) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1536, "1.5K"),
            ((1 << 20) - 1, "1024.0K"),
            (1 << 20, "1.0M"),
            (1 << 40, "1.0T"),
            (u64::MAX, "16.0E"),
        ] {
            assert_eq!(human(bytes), expected);
        }
    }

    #[test]
    fn sizes_can_be_typed() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("64K", Some(64 << 10)),
            ("5GB", Some(5 << 30)),
            ("5 GB", Some(5 << 30)),
            ("5.5gib", Some(11 << 29)),
            ("0", Some(0)),
            ("", None),
            ("K", None),
            ("-5GB", None),
            ("5PB", None),
            ("invalid", None),
            ("99999999999T", None),
            ("1e3", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        }
    }
}
