//! Points in time, RFC 3339 in UTC.

use jiff::Timestamp;

/// Nanoseconds since 1970-01-01T00:00:00Z as RFC 3339; every value of the type is in range.
pub(crate) fn rfc3339(ns: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(ns)).expect("64 bits of nanoseconds are the years 1677 to 2262");
    time.to_string()
}

/// The same to the minute, for tables.
pub(crate) fn short(ns: i64) -> String {
    let text = rfc3339(ns);
    text.get(..16).map_or_else(|| text.clone(), |minute| minute.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_times_can_be_shown() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_500_000_000_000_000_001), "2017-07-14T02:40:00.000000001Z");
        assert_eq!(short(i64::MIN), "1677-09-21 00:12");
        assert_eq!(short(i64::MAX), "2262-04-11 23:47");
    }
}
