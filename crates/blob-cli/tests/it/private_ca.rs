//! Registries with passwords and TLS whose certificates an authority of one's own signed.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use blob_testkit::peers::{DockerRegistry, Security, require};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use snapbox::cmd::OutputAssert;

use crate::serve::started;
use crate::support::{Place, stderr, stdout};

/// Writes `ca.pem`, and `cert.pem` with `key.pem` for this machine.
fn certificates(place: &Place) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(place.path("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issuer = Issuer::new(authority, authority_key);
    let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(place.path("cert.pem"), signed.pem()).unwrap();
    fs::write(place.path("key.pem"), key.serialize_pem()).unwrap();
}

fn log_in(place: &Place, line: &str, password: &str) -> OutputAssert {
    let mut command = place.command(&format!("login {line} -u ann --password-stdin"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its words does not wait for input.
    let _ = child.stdin.take().unwrap().write_all(password.as_bytes());
    OutputAssert::new(child.wait_with_output().unwrap())
}

/// What somebody does with a registry at `host` in an afternoon, from the log in to the log out.
fn use_it(place: &Place, host: &str) {
    let unknown = log_in(place, host, "secret").failure();
    assert!(stderr(&unknown).contains("--ca-file"), "{}", stderr(&unknown));
    let foreign = log_in(place, &format!("--ca-file cert.pem {host}"), "secret").code(5);
    assert!(stderr(&foreign).contains("hint: name the certificate authority"), "{}", stderr(&foreign));
    log_in(place, &format!("--ca-file ca.pem {host}"), "wrong").code(4);
    let known = log_in(place, &format!("--ca-file ca.pem {host}"), "secret").success();
    assert!(stdout(&known).starts_with(&format!("Logged in to {host} as ann;")), "{}", stdout(&known));
    // From now on the configuration knows the authority.
    let authority = place.path("ca.pem");
    place.run(&format!("config set registries.{host}.ca_file {}", authority.display())).success();
    place.run(&format!("config set registries.{host}.plain_http false")).success();

    let (one, two) = (format!("{host}/team/one:v1"), format!("{host}/team/two:v2"));
    place.run(&format!("push -q {one} project")).success();
    assert_eq!(stdout(&place.run(&format!("tags {host}/team/one")).success()), "v1\n");
    assert_eq!(stdout(&place.run(&format!("cat {one} README.md")).success()), "# Sample\n");
    place.run(&format!("copy -q {one} {two}")).success();
    place.run(&format!("pull -q {two} out-{}", host.len())).success();
    assert_eq!(fs::read(place.path(format!("out-{}/README.md", host.len()))).unwrap(), b"# Sample\n");
    place.run(&format!("referrers {two}")).success();
    // Not every registry can delete a tag alone.
    place.run(&format!("rm -q --yes --manifest {two}")).success();
    place.run(&format!("ls --no-cache {two}")).code(3);
    place.run(&format!("logout {host}")).success();
    place.run(&format!("tags {host}/team/one")).code(4);
}

#[test]
fn docker_registry_is_used_from_login_to_logout() {
    let place = Place::offline();
    certificates(&place);
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    let tls = Some((read("cert.pem"), read("key.pem")));
    let security = Security { htpasswd: Some(Security::ANN.into()), tls, ..Security::default() };
    let Some(registry) = require("docker-registry", DockerRegistry::start_with(&security)) else { return };
    use_it(&place, &format!("localhost:{}", registry.addr().port()));
}

#[test]
fn authorities_of_an_option_and_of_a_directory_count_together() {
    let place = Place::offline();
    certificates(&place);
    let (_server, url) = started(&place, "--tls-cert cert.pem --tls-key key.pem");
    let host = url.strip_prefix("https://").unwrap();
    let dir = place.path("home/.config/containers/certs.d").join(host);
    fs::create_dir_all(&dir).unwrap();
    // The one knows the registry and the other does not, either way round.
    fs::copy(place.path("cert.pem"), dir.join("other.crt")).unwrap();
    place.run(&format!("--retries 0 --ca-file cert.pem push -q {host}/a/b:v1 project")).code(5);
    place.run(&format!("--ca-file ca.pem push -q {host}/a/b:v1 project")).success();
    fs::copy(place.path("ca.pem"), dir.join("company.crt")).unwrap();
    place.run(&format!("--ca-file cert.pem ls {host}/a/b:v1")).success();
}

#[test]
fn our_registry_is_used_from_login_to_logout() {
    for tokens in ["", " --tokens"] {
        let place = Place::offline();
        certificates(&place);
        fs::write(place.path("htpasswd"), Security::ANN).unwrap();
        let options = format!("--htpasswd htpasswd --tls-cert cert.pem --tls-key key.pem{tokens}");
        let (_server, url) = started(&place, &options);
        use_it(&place, url.strip_prefix("https://").unwrap());
    }
}
