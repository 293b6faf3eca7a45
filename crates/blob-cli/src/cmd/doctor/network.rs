//! The way to a registry: name, connection, TLS, its clock, what it says without a log-in.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use blob::http::{HttpError, Response, Transport, TransportOptions, empty};
use blob::{Admission, Location, RegistryOptions};
use http::header::{CONTENT_TYPE, DATE, WWW_AUTHENTICATE};

use super::{Check, Checks, PATIENCE, Status};
use crate::error::{Failure, Kind};
use crate::session::Session;

/// How far clocks may differ before signatures and tokens suffer.
const SKEW: Duration = Duration::from_mins(1);

/// Looks at `host`, step by step; what comes after a failed step is skipped.
pub(super) async fn examine(host: &str, session: &Session, checks: &mut Checks) {
    if session.options.offline {
        return checks.push(Check::skipped("registry", "nothing is sent with --offline"));
    }
    let options = session.registry_options(host);
    let plain = options.plain_http.unwrap_or(session.options.plain_http || is_loopback(host));
    let steps = async {
        let addresses = resolve(host, plain, checks).await?;
        connect(&addresses, checks).await?;
        let answer = ask(host, plain, &options, session, checks).await?;
        checks.push(clock(&answer));
        if let Some(problem) = no_registry(host, &answer) {
            checks.push(problem);
            return Some(());
        }
        checks.push(match log_in(&answer) {
            Some(told) => told,
            None => try_login(host, &answer, session).await,
        });
        Some(())
    };
    if steps.await.is_none() {
        checks.push(Check::skipped("registry", "it cannot be reached"));
    }
}

/// Whether the host is this machine, which is spoken to without TLS.
fn is_loopback(host: &str) -> bool {
    let name = name_and_port(host, 0).0;
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn name_and_port(host: &str, usual: u16) -> (&str, u16) {
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, port.parse().unwrap_or(usual)),
        _ => (host, usual),
    }
}

async fn resolve(host: &str, plain: bool, checks: &mut Checks) -> Option<Vec<SocketAddr>> {
    let (name, port) = name_and_port(host, if plain { 80 } else { 443 });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((bare, port))).await;
    let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    match found.map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            checks.push(Check::ok("name", format!("{bare} is {}", shown.join(", "))));
            Some(addresses)
        }
        Ok(_) => failed(checks, "name", &format!("{bare} has no address"), "check the name of the registry"),
        Err(error) => failed(checks, "name", &format!("looking up {bare}: {error}"), "check the name, and the network"),
    }
}

fn failed<T>(checks: &mut Checks, name: &'static str, problem: &str, hint: &str) -> Option<T> {
    checks.push(Check::failed(name, &Failure::new(Kind::Network, problem).with_hint(hint)));
    None
}

async fn connect(addresses: &[SocketAddr], checks: &mut Checks) -> Option<()> {
    let begun = Instant::now();
    let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(addresses)).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            let to = stream.peer_addr().map_or_else(|_| "the registry".into(), |address| address.to_string());
            checks.push(Check::ok("connection", format!("{to} in {} ms", begun.elapsed().as_millis())));
        }
        // Behind a proxy, this is how it should be.
        Err(error) if has_proxy() => {
            checks.push(Check::new("connection", Status::Warning, format!("not without the proxy: {error}")));
        }
        Err(error) => {
            let problem = format!("connecting to {}: {error}", addresses[0]);
            return failed(checks, "connection", &problem, "check the port, and firewalls on the way");
        }
    }
    Some(())
}

fn has_proxy() -> bool {
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    names.into_iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Asks what every registry answers.
async fn ask(
    host: &str,
    plain: bool,
    options: &RegistryOptions,
    session: &Session,
    checks: &mut Checks,
) -> Option<Answer> {
    let name = if plain { "http" } else { "tls" };
    let begun = Instant::now();
    match send(host, &options.clone().with_plain_http(plain), session).await {
        Ok(response) => {
            let (status, version) = (response.status(), response.version());
            let took = begun.elapsed().as_millis();
            let detail = format!("{version:?} answers {} in {took} ms", status.as_u16());
            let check = Check::ok(name, detail);
            let warned = Check { status: Status::Warning, ..check.clone() };
            checks.push(if plain && !is_loopback(host) {
                warned.with_hint("nothing is encrypted: whoever is on the way can read and change what is sent")
            } else {
                check
            });
            Some(Answer::of(&response))
        }
        Err(failure) => {
            checks.push(Check::failed(name, &failure));
            None
        }
    }
}

async fn send(host: &str, options: &RegistryOptions, session: &Session) -> Result<Response, Failure> {
    let scheme = if options.plain_http == Some(true) { "http" } else { "https" };
    let url = format!("{scheme}://{host}/v2/");
    let wrong = |problem: String| Failure::new(Kind::Usage, problem);
    let mut base = TransportOptions::default().with_user_agent(concat!("blob/", env!("CARGO_PKG_VERSION")));
    let patience = session.options.timeout.map_or(PATIENCE, |time| Duration::from_secs(time.seconds()));
    base = base.with_idle_timeout(patience);
    let own = options.transport(host, &base).map_err(|error| wrong(error.to_string()))?;
    let transport = Transport::new(own.unwrap_or(base)).map_err(|error| failure(&error))?;
    let request = http::Request::get(&url).body(empty()).map_err(|error| wrong(format!("{url}: {error}")))?;
    transport.send(request).await.map_err(|error| failure(&error))
}

fn failure(error: &HttpError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let failure = Failure::new(Kind::Network, format!("{error}{cause}"));
    match error {
        HttpError::Tls { .. } => failure.with_hint(
            "name the certificate authority with --ca-file, or as `ca_file` under `registries` of the configuration",
        ),
        _ => failure,
    }
}

/// What the answer says besides its status.
struct Answer {
    status: u16,
    date: Option<SystemTime>,
    challenge: Option<String>,
    content_type: Option<String>,
}

impl Answer {
    fn of(response: &Response) -> Self {
        let header = |name| response.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        Self {
            status: response.status().as_u16(),
            date: header(DATE).and_then(|date| httpdate::parse_http_date(date).ok()),
            challenge: header(WWW_AUTHENTICATE).and_then(|text| text.split_whitespace().next()).map(str::to_owned),
            content_type: header(CONTENT_TYPE).map(str::to_ascii_lowercase),
        }
    }
}

fn clock(answer: &Answer) -> Check {
    let Some(date) = answer.date else {
        return Check::skipped("clock", "the registry does not say what time it is");
    };
    let now = SystemTime::now();
    let skew = now.duration_since(date).unwrap_or_else(|earlier| earlier.duration());
    let detail = format!("{} s apart from the registry's", skew.as_secs());
    if skew > SKEW {
        Check::warning("clock", detail).with_hint("set the clock: signatures and tokens depend on it")
    } else {
        Check::ok("clock", detail)
    }
}

/// A page for people, where a registry says next to nothing, is some other server's, or of what stands in between.
fn no_registry(host: &str, answer: &Answer) -> Option<Check> {
    let page = answer.content_type.as_deref().filter(|kind| kind.starts_with("text/html"))?;
    if answer.status != 200 {
        return None;
    }
    let problem = format!("{host} answers with a page of type {page}: who answered is no registry");
    let failure = Failure::new(Kind::Network, problem);
    Some(Check::failed(
        "registry",
        &failure.with_hint("check the name and the port; a network may want a log-in first"),
    ))
}

/// What can be told without a login; `None` where the registry asks for one.
fn log_in(answer: &Answer) -> Option<Check> {
    Some(match (answer.status, &answer.challenge) {
        (200, _) => Check::ok("log-in", "the registry asks nobody for one to begin with"),
        (401, Some(_)) => return None,
        (401, None) => Check::warning("log-in", "the registry asks for one without saying which"),
        (status, _) => Check::warning("log-in", format!("the registry answers {status} where 200 or 401 is due"))
            .with_hint("this may not be a registry, or something in between answers"),
    })
}

/// Tries what is known of a login.
async fn try_login(host: &str, answer: &Answer, session: &Session) -> Check {
    let scheme = answer.challenge.as_deref().unwrap_or_default();
    let admitted = async {
        let anywhere: Location = format!("{host}/x").parse()?;
        Ok::<_, Failure>(session.client(&[&anywhere]).await?.authenticate(host).await?)
    };
    match tokio::time::timeout(PATIENCE, admitted).await {
        Ok(Ok(Admission::Admitted)) => Check::ok("log-in", format!("the registry asks for {scheme}, and lets us in")),
        Ok(Ok(_)) => Check::ok("log-in", "the registry lets everybody in"),
        Ok(Err(failure)) => Check::failed("log-in", &failure),
        Err(_) => Check::warning("log-in", format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_apart() {
        for (host, expected, local) in [
            ("ghcr.io", ("ghcr.io", 443), false),
            ("localhost:5000", ("localhost", 5000), true),
            ("127.0.0.1:80", ("127.0.0.1", 80), true),
            ("[::1]:5000", ("[::1]", 5000), true),
            ("[::1]", ("[::1]", 443), true),
            ("10.0.0.1", ("10.0.0.1", 443), false),
        ] {
            assert_eq!((name_and_port(host, 443), is_loopback(host)), (expected, local), "{host}");
        }
    }

    #[test]
    fn clocks_are_compared() {
        let check = |age: u64| {
            let date = SystemTime::now().checked_sub(Duration::from_secs(age));
            clock(&Answer { status: 200, date, challenge: None, content_type: None }).status
        };
        assert_eq!((check(3), check(600)), (Status::Ok, Status::Warning));
    }
}
