//! Where tokens may be asked for.
//!
//! The realm of a Bearer challenge is the registry's word, and what is sent there is a password. It must be `https`
//! (`http` only if the registry itself is reached by it), and it must not be an address that only this machine or its
//! network answers for — the classic aim of forged requests — unless the registry lives on that very host.
//!
//! Addresses are judged, names are not resolved: a name that leads to a private address passes, as it would have to where
//! name servers answer differently inside a network. What protects there is TLS: whoever answers must have a certificate for
//! the name. No policy holds for where content is: redirects and upload locations get no credentials, and are followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// What is allowed beyond the defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct RealmPolicy {
    /// Hosts that may issue tokens whatever their address, in lower case and without port.
    pub(super) hosts: Vec<String>,
    /// Whether private networks (RFC 1918, RFC 4193, RFC 6598) may; loopback and link-local never come with it.
    pub(super) private_networks: bool,
}

impl RealmPolicy {
    /// Parses `realm` and checks it against the policy; `registry` is the registry's own URL. The error says what is
    /// wrong and how to allow it.
    pub(super) fn check(&self, realm: &str, registry: &Url) -> Result<Url, String> {
        let shown = || realm.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
        let url = Url::parse(realm).map_err(|_| "the token service's address is not a URL".to_owned())?;
        let shown_host = url.host_str().map_or_else(shown, str::to_owned);
        let refuse = |why: &str| Err(format!("refusing to send credentials to token service {shown_host}: {why}"));
        match url.scheme() {
            "https" => {}
            "http" if registry.scheme() == "http" => {}
            _ => return refuse("it is not https"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("its address holds a user name");
        }
        let (Some(host), Some(own)) = (url.host(), registry.host()) else {
            return refuse("its address has no host");
        };
        let same = host == own || (nature(&host) == Nature::Loopback && nature(&own) == Nature::Loopback);
        if same || self.hosts.iter().any(|allowed| *allowed == host.to_string()) {
            return Ok(url);
        }
        match nature(&host) {
            Nature::Public => Ok(url),
            Nature::Private if self.private_networks => Ok(url),
            Nature::Private => refuse("it is on a private network; allow private token services if that is right"),
            Nature::Loopback => refuse("it is a loopback address; allow this host for tokens if that is right"),
            Nature::Local => refuse("it is a link-local, metadata or reserved address"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    Public,
    Private,
    Loopback,
    /// Link-local, unspecified, multicast, or a known metadata service.
    Local,
}

fn nature(host: &Host<&str>) -> Nature {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if name == "localhost" || name.ends_with(".localhost") {
                Nature::Loopback
            } else if name == "metadata.google.internal" || name == "metadata" {
                Nature::Local
            } else {
                Nature::Public
            }
        }
        Host::Ipv4(address) => of_v4(*address),
        Host::Ipv6(address) => of_v6(*address),
    }
}

fn of_v4(address: Ipv4Addr) -> Nature {
    let [a, b, ..] = address.octets();
    if address.is_loopback() {
        Nature::Loopback
    } else if a == 0 || a >= 224 || address.is_link_local() || address == Ipv4Addr::new(100, 100, 100, 200) {
        Nature::Local
    } else if address.is_private() || (a == 100 && b & 0xc0 == 64) {
        Nature::Private
    } else {
        Nature::Public
    }
}

fn of_v6(address: Ipv6Addr) -> Nature {
    /// The metadata service of EC2.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let segments = address.segments();
    if let IpAddr::V4(mapped) = address.to_canonical() {
        return of_v4(mapped);
    }
    // Both translate to an IPv4 address on the way: NAT64 (RFC 6052) and the deprecated compatible form.
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || (segments[..6] == [0; 6] && segments[6] != 0) {
        let [.., a, b, c, d] = address.octets();
        return of_v4(Ipv4Addr::new(a, b, c, d));
    }
    // 6to4 (RFC 3056) has the IPv4 address behind its prefix.
    if segments[0] == 0x2002 {
        let [_, _, a, b, c, d, ..] = address.octets();
        return of_v4(Ipv4Addr::new(a, b, c, d));
    }
    if address.is_loopback() {
        Nature::Loopback
    } else if address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address == METADATA
    {
        Nature::Local
    } else if address.is_unique_local() || segments[0] & 0xffc0 == 0xfec0 || segments[..3] == [0x64, 0xff9b, 1] {
        // Unique local, the site-local addresses before them (RFC 3879), and NAT64 of one's own network (RFC 8215).
        Nature::Private
    } else {
        Nature::Public
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(policy: &RealmPolicy, registry: &str, realm: &str, ok: bool) {
        let verdict = policy.check(realm, &Url::parse(registry).unwrap());
        assert_eq!(verdict.is_ok(), ok, "{registry} {realm} {verdict:?}");
    }

    #[test]
    fn realms_are_judged() {
        let policy = RealmPolicy::default();
        for (registry, realm, ok) in [
            ("https://ghcr.io/", "https://ghcr.io/token", true),
            ("https://registry-1.docker.io/", "https://auth.docker.io/token?x=y", true),
            ("https://ghcr.io/", "http://ghcr.io/token", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true),
            ("http://localhost:5000/", "http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5000/", "http://169.254.169.254/latest", false),
            ("https://ghcr.io/", "https://127.0.0.1/token", false),
            ("https://ghcr.io/", "https://localhost/token", false),
            ("https://ghcr.io/", "https://2130706433/token", false),
            ("https://ghcr.io/", "https://[::1]/token", false),
            ("https://ghcr.io/", "https://[::ffff:127.0.0.1]/token", false),
            ("https://ghcr.io/", "https://[64:ff9b::a9fe:a9fe]/token", false),
            ("https://ghcr.io/", "https://[2002:a9fe:a9fe::1]/token", false),
            ("https://ghcr.io/", "https://[2002:808:808::1]/token", true),
            ("https://ghcr.io/", "https://[64:ff9b:1::a9fe:a9fe]/token", false),
            ("https://ghcr.io/", "https://[fec0::1]/token", false),
            ("https://ghcr.io/", "https://169.254.169.254/token", false),
            ("https://ghcr.io/", "https://metadata.google.internal/token", false),
            ("https://ghcr.io/", "https://[fd00:ec2::254]/token", false),
            ("https://ghcr.io/", "https://[fe80::1]/token", false),
            ("https://ghcr.io/", "https://0.0.0.0/token", false),
            ("https://ghcr.io/", "https://10.1.2.3/token", false),
            ("https://10.1.2.3/", "https://10.1.2.3:8443/token", true),
            ("https://10.1.2.3/", "https://10.1.2.4/token", false),
            ("https://ghcr.io/", "https://user:secret@ghcr.io/token", false),
            ("https://ghcr.io/", "file:///etc/passwd", false),
            ("https://ghcr.io/", "/token", false),
            ("https://ghcr.io/", "", false),
        ] {
            check(&policy, registry, realm, ok);
        }
    }

    #[test]
    fn options_widen_it() {
        let private = RealmPolicy { private_networks: true, hosts: vec![] };
        check(&private, "https://r.example/", "https://192.168.1.1/token", true);
        check(&private, "https://r.example/", "https://169.254.169.254/token", false);
        let named = RealmPolicy { private_networks: false, hosts: vec!["127.0.0.1".into()] };
        check(&named, "https://r.example/", "https://127.0.0.1:1/token", true);
        check(&named, "https://r.example/", "http://127.0.0.1:1/token", false);
    }
}
