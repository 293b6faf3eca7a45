//! When to try again, and how long to wait before: exponential back-off with full jitter under a total budget.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

/// How often and how patiently to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in a row that may fail without progress, the first one included (6). 1 means: never again.
    pub max_attempts: u32,
    /// The upper bound of the first wait (200 ms); it doubles with every further attempt.
    pub base: Duration,
    /// The upper bound of every wait (10 s).
    pub cap: Duration,
    /// The sum of all waits of one operation (60 s).
    pub budget: Duration,
    /// A server that asks for more patience than this (60 s) is not waited for.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            budget: Duration::from_mins(1),
            max_retry_after: Duration::from_mins(1),
        }
    }
}

impl RetryPolicy {
    /// One attempt and no more.
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// Sets the attempts in a row that may fail without progress, the first one included.
    #[must_use]
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// Sets the upper bounds of the first wait and of every wait.
    #[must_use]
    pub fn with_backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.base = base;
        self.cap = cap;
        self
    }

    /// Sets the sum of all waits of one operation.
    #[must_use]
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the longest `Retry-After` that is waited for.
    #[must_use]
    pub fn with_max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.max_retry_after = max_retry_after;
        self
    }
}

/// What the budget is charged for a retry at least, so that a server that hands out one byte at a time and a policy
/// without waits still come to an end.
const LEAST_CHARGE: Duration = Duration::from_millis(5);

/// The retries of one operation.
#[derive(Debug)]
pub struct Retries {
    policy: RetryPolicy,
    failed: u32,
    waited: Duration,
    random: RandomState,
    draws: u64,
}

impl Retries {
    /// A fresh operation under `policy`.
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0, waited: Duration::ZERO, random: RandomState::new(), draws: 0 }
    }

    /// An attempt failed: how long to wait before the next one, or `None` to give up. `retry_after` is what the server
    /// asked for; it is honoured in full (a little jitter on top), or not at all when it exceeds the policy.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= self.policy.max_attempts {
            return None;
        }
        let ceiling = self.ceiling();
        let delay = match retry_after {
            Some(asked) if asked > self.policy.max_retry_after => return None,
            // The jitter keeps many clients that were sent away together from coming back together.
            Some(asked) => {
                let room = self.left().saturating_sub(asked);
                asked.saturating_add(self.draw(ceiling.min(asked / 8)).min(room))
            }
            None => self.draw(ceiling),
        };
        let waited = self.waited.saturating_add(delay.max(LEAST_CHARGE));
        if waited > self.policy.budget {
            return None;
        }
        self.waited = waited;
        Some(delay)
    }

    /// Bytes moved: the attempts count from one again. The budget for waiting is not refilled.
    pub fn progressed(&mut self) {
        self.failed = 0;
    }

    /// How long the operation may still wait.
    pub fn left(&self) -> Duration {
        self.policy.budget.saturating_sub(self.waited)
    }

    /// Takes note of a wait that had another reason than a failure.
    pub fn charge(&mut self, waited: Duration) {
        self.waited = self.waited.saturating_add(waited);
    }

    /// How long the operation waited so far, in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The upper bound of the next wait.
    fn ceiling(&self) -> Duration {
        let doublings = self.failed.saturating_sub(1).min(31);
        self.policy.base.saturating_mul(1 << doublings).min(self.policy.cap)
    }

    /// A duration in `0..=ceiling`. The standard library's hash seeds are random enough to spread clients.
    fn draw(&mut self, ceiling: Duration) -> Duration {
        self.draws += 1;
        let fraction = (self.random.hash_one(self.draws) >> 11) as f64 / (1_u64 << 53) as f64;
        // Fails only by rounding, for ceilings near the largest duration there is.
        Duration::try_from_secs_f64(ceiling.as_secs_f64() * fraction).unwrap_or(ceiling)
    }
}

/// How long the server asks to wait: the `Retry-After` header as seconds or as HTTP date. A date is taken relative to
/// the answer's own `Date`, so that a wrong clock here does not matter; one in the past means no wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let when = httpdate::parse_http_date(value).ok()?;
    let now = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Some(when.duration_since(now.unwrap_or_else(SystemTime::now)).unwrap_or_default())
}

/// How long to send nothing, if the server says that no request is left until then: `RateLimit-Remaining: 0` with
/// `RateLimit-Reset` in seconds, or both in one `RateLimit` header (`"default";r=0;t=30`), whose longest wait counts.
pub fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.split(';').next().and_then(|first| first.trim().parse::<u64>().ok());
    if let Some(limit) = text("ratelimit") {
        // Several policies are apart by commas; an older form has commas between the members of one.
        let policies: Vec<&str> = if limit.contains(';') { limit.split(',').collect() } else { vec![limit] };
        let until = |policy: &str| {
            let part =
                |name: &str| policy.split([';', ',']).find_map(|part| part.trim().strip_prefix(name)).and_then(number);
            (part("r=")? == 0).then(|| part("t="))?
        };
        return policies.into_iter().filter_map(until).max().map(Duration::from_secs);
    }
    let left = text("ratelimit-remaining").and_then(number)?;
    (left == 0).then(|| text("ratelimit-reset").and_then(number))?.map(Duration::from_secs)
}

/// Whether the same request may succeed later: 408, 429, 500, 502, 503, 504.
pub fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn waits_grow_within_their_bounds_and_end() {
        let mut retries = Retries::new(RetryPolicy::default().with_budget(Duration::from_hours(1)));
        for doublings in 0..5_u32 {
            let delay = retries.next_delay(None).unwrap();
            assert!(delay <= Duration::from_millis(200 << doublings), "{delay:?} at {doublings}");
        }
        assert_eq!(retries.next_delay(None), None);
    }

    #[test]
    fn all_of_the_budget_can_be_asked_for() {
        let budget = RetryPolicy::default().budget;
        assert_eq!(Retries::new(RetryPolicy::default()).next_delay(Some(budget)), Some(budget));
        let more = budget + Duration::from_secs(1);
        let policy = RetryPolicy::default().with_max_retry_after(more);
        assert_eq!(Retries::new(policy).next_delay(Some(more)), None);
    }

    #[test]
    fn progress_renews_attempts_but_not_the_budget() {
        let policy = RetryPolicy::default().with_backoff(Duration::ZERO, Duration::ZERO);
        let mut retries = Retries::new(policy.with_budget(LEAST_CHARGE * 20));
        let granted = std::iter::from_fn(|| {
            retries.progressed();
            retries.next_delay(None)
        });
        assert_eq!(granted.take(1000).count(), 20);
    }

    #[test]
    fn the_server_is_waited_for_up_to_the_limit() {
        let mut retries = Retries::new(RetryPolicy::default());
        let delay = retries.next_delay(Some(Duration::from_secs(8))).unwrap();
        assert!((Duration::from_secs(8)..=Duration::from_secs(9)).contains(&delay), "{delay:?}");
        assert_eq!(retries.next_delay(Some(Duration::from_secs(61))), None);
        assert_eq!(Retries::new(RetryPolicy::never()).next_delay(None), None);
        let mut huge = Retries::new(RetryPolicy::default().with_max_retry_after(Duration::MAX));
        assert_eq!(huge.next_delay(Some(Duration::from_secs(61))), None, "beyond the budget");
        assert_eq!(huge.next_delay(Some(Duration::MAX)), None);
        let boundless = RetryPolicy::default().with_backoff(Duration::MAX, Duration::MAX).with_budget(Duration::MAX);
        assert!(Retries::new(boundless).next_delay(None).is_some());
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let later = "Fri, 20 Nov 2026 10:00:30 GMT";
        let cases = [
            (headers(&[(RETRY_AFTER, "7")]), Some(7)),
            (headers(&[(RETRY_AFTER, " 0 ")]), Some(0)),
            (headers(&[(RETRY_AFTER, "99999999999999999999999")]), Some(u64::MAX)),
            (headers(&[(RETRY_AFTER, later), (DATE, "Fri, 20 Nov 2026 10:00:00 GMT")]), Some(30)),
            (headers(&[(RETRY_AFTER, later), (DATE, "Fri, 20 Nov 2026 11:00:00 GMT")]), Some(0)),
            (headers(&[(RETRY_AFTER, "Fri, 01 Jan 2021 00:00:00 GMT")]), Some(0)),
            (headers(&[(RETRY_AFTER, "-3")]), None),
            (headers(&[(RETRY_AFTER, "soon")]), None),
            (headers(&[]), None),
        ];
        for (headers, expect) in cases {
            assert_eq!(retry_after(&headers), expect.map(Duration::from_secs), "{headers:?}");
        }
    }

    #[test]
    fn an_exhausted_allowance_is_read_in_both_forms() {
        type Case<'a> = (&'a [(&'static str, &'a str)], Option<u64>);
        let cases: &[Case<'_>] = &[
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "7")], Some(7)),
            (&[("ratelimit-remaining", "1"), ("ratelimit-reset", "7")], None),
            (&[("ratelimit-remaining", "0;w=21600")], None),
            (&[("ratelimit", "\"default\";r=0;t=30")], Some(30)),
            (&[("ratelimit", "limit=10, r=0, t=3")], Some(3)),
            (&[("ratelimit", "\"default\";r=5;t=30")], None),
            (&[("ratelimit", "nonsense")], None),
            (&[("ratelimit", "\"burst\";r=3;t=1, \"hour\";r=0;t=40, \"day\";r=0;t=9")], Some(40)),
            (&[], None),
        ];
        for (pairs, expect) in cases {
            let pairs: Vec<_> =
                pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), *value)).collect();
            assert_eq!(exhausted(&headers(&pairs)), expect.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn only_passing_troubles_are_transient() {
        let transient: Vec<u16> = (100..600).filter(|status| is_transient_status(*status)).collect();
        assert_eq!(transient, [408, 429, 500, 502, 503, 504]);
    }
}
