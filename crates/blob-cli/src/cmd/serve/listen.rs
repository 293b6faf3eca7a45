//! Where a server listens, as people write it.

use std::net::{IpAddr, SocketAddr};

use crate::error::Failure;

/// The address that `typed` means: `ADDRESS:PORT`, a name in the place of the address, or one of the two alone, with `default` in
/// the place of a port. A port alone is this machine's; behind a colon without an address it is one of all addresses, as other servers have it.
///
/// # Errors
/// It is none of these, or the name has no address.
pub(in crate::cmd) async fn find(typed: &str, default: u16) -> Result<SocketAddr, Failure> {
    if let Some(known) = literal(typed, default) {
        return Ok(known);
    }
    let wrong = || {
        let hint = format!(
            "expected ADDRESS:PORT, as 127.0.0.1:{default} or localhost:{default}; :{default} is all addresses"
        );
        Failure::usage(format!("cannot listen at {typed:?}")).with_hint(hint)
    };
    let (name, port) = match typed.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| wrong())?),
        None => (typed, default),
    };
    // Digits alone are an address to some systems, and a slip of the port to people.
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(letter)) {
        return Err(wrong());
    }
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| wrong().because(&error))?.collect();
    // What `127.0.0.1` in a reference reaches.
    let preferred = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first());
    preferred.copied().ok_or_else(wrong)
}

/// What needs nobody to be asked.
fn literal(typed: &str, default: u16) -> Option<SocketAddr> {
    let local = IpAddr::from([127, 0, 0, 1]);
    let bare = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(typed);
    let all = || Some(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), typed.strip_prefix(':')?.parse().ok()?));
    let address = || Some(SocketAddr::new(bare.parse().ok()?, default));
    let port = || Some(SocketAddr::new(local, typed.parse().ok()?));
    typed.parse().ok().or_else(all).or_else(address).or_else(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_ports_and_both_are_understood() {
        for (typed, expected) in [
            ("127.0.0.1:7", Some("127.0.0.1:7")),
            ("[::1]:7", Some("[::1]:7")),
            ("[::1]", Some("[::1]:5000")),
            ("::1", Some("[::1]:5000")),
            ("10.0.0.1", Some("10.0.0.1:5000")),
            (":7", Some("0.0.0.0:7")),
            ("7", Some("127.0.0.1:7")),
            ("localhost:7", None),
            ("70000", None),
            ("", None),
        ] {
            assert_eq!(literal(typed, 5000).map(|address| address.to_string()).as_deref(), expected, "{typed}");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        assert!(find("localhost:7", 5000).await.is_ok_and(|found| found.ip().is_loopback() && found.port() == 7));
        for wrong in ["", "localhost:x", "http://localhost:5000", "a b:1", ":70000", "99999"] {
            assert!(
                find(wrong, 5000).await.is_err_and(|failure| failure.text().contains("expected ADDRESS:PORT")),
                "{wrong}"
            );
        }
    }
}
