//! How many requests one address may send.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of more addresses than this, those that have not sent anything for longest are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// Saves up requests for each address: one more for each part of a second, up to those of ten seconds.
pub(super) struct Rate {
    per_second: f64,
    burst: f64,
    saved: Mutex<HashMap<IpAddr, Saved>>,
}

#[derive(Clone, Copy)]
struct Saved {
    requests: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let per_second = f64::from(per_second.get());
        Self { per_second, burst: per_second * 10.0, saved: Mutex::default() }
    }

    /// Takes one request of `address`, or says when there will be one.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = network(address);
        // Changes are single assignments: the map is whole even if a thread panicked.
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.len() >= MAX_ADDRESSES && !saved.contains_key(&address) {
            // Whoever has saved everything again is as good as new.
            saved.retain(|_, entry| self.grown(*entry, now) < self.burst);
            if saved.len() >= MAX_ADDRESSES {
                saved.clear();
            }
        }
        let entry = saved.entry(address).or_insert(Saved { requests: self.burst, at: now });
        let requests = self.grown(*entry, now);
        *entry = Saved { requests, at: now };
        if requests >= 1.0 {
            entry.requests -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - requests) / self.per_second))
    }

    fn grown(&self, entry: Saved, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(entry.at).as_secs_f64();
        (entry.requests + seconds * self.per_second).min(self.burst)
    }
}

/// Whoever has an address of version 6 mostly has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_spent_and_grows_again() {
        let rate = Rate::new(NonZeroU32::new(2).expect("not zero"));
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let now = Instant::now();
        for _ in 0..20 {
            rate.take(one, now).expect("ten seconds' worth");
        }
        assert_eq!(rate.take(one, now), Err(Duration::from_millis(500)));
        rate.take(other, now).expect("another address");
        rate.take(one, now + Duration::from_millis(600)).expect("one has grown");
        rate.take(one, now + Duration::from_millis(600)).expect_err("and no more");
    }

    #[test]
    fn a_network_of_version_6_is_one_client() {
        let rate = Rate::new(NonZeroU32::new(1).expect("not zero"));
        let now = Instant::now();
        for last in 0..10_u16 {
            rate.take(Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, last).into(), now).expect("ten seconds' worth");
        }
        rate.take(Ipv6Addr::new(1, 2, 3, 4, 9, 9, 9, 9).into(), now).expect_err("all of them together");
        rate.take(Ipv6Addr::new(1, 2, 3, 5, 0, 0, 0, 0).into(), now).expect("another network");
    }

    #[test]
    fn memory_is_bounded() {
        let rate = Rate::new(NonZeroU32::new(1).expect("not zero"));
        let now = Instant::now();
        for number in 0..30_000_u32 {
            rate.take(std::net::Ipv4Addr::from(number).into(), now).expect("each has its own");
        }
        assert!(rate.saved.lock().expect("no thread panicked").len() <= MAX_ADDRESSES);
    }
}
