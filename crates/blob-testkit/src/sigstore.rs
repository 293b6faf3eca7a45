//! A Sigstore instance in this process: a certificate authority with certificate transparency, transparency logs of both
//! versions with real Merkle proofs and checkpoints, a time-stamp authority, and the trust root that names them.
//!
//! Everything answers over loopback as the real services do. A [`Fault`] makes one of them lie, fail or hang.

mod ca;
mod der;
mod http;
mod keys;
mod log;
mod login;
mod tsa;
mod tuf;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::ca::CertificateAuthority;
use self::keys::Key;
use self::log::Log;
use self::tsa::TimeStampAuthority;

pub use self::tuf::{Files, Publisher};

/// What goes wrong in an instance, from when it is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Certificates were valid an hour ago, for ten minutes.
    ExpiredCertificate,
    /// Certificates are signed by an authority that the trust root does not name.
    ForeignAuthority,
    /// Certificates have no proof of certificate transparency.
    NoTransparency,
    /// Certificates have one by a log that the trust root does not name.
    ForeignTransparencyLog,
    /// Certificates are for somebody else than the token is.
    ForeignIdentity,
    /// Certificates are about another key than was asked for.
    ForeignKey,
    /// Entries are signed by a log that the trust root does not name.
    ForeignLog,
    /// The Merkle proof has one hash changed, or one too many.
    BadProof,
    /// The checkpoint is signed, over another root.
    BadRoot,
    /// The checkpoint's signature is wrong.
    BadCheckpoint,
    /// The promise of inclusion is signed over another time (version 1).
    BadPromise,
    /// The log answers with the first entry that it has, whatever is asked.
    Replay,
    /// Stamps are by an authority that the trust root does not name.
    ForeignStamp,
    /// Stamps say a time two hours ago.
    StaleStamp,
    /// Stamps are about something else.
    OtherImprint,
    /// Every service answers with this status and a short text.
    Status(u16),
    /// Every service answers with 64 MiB.
    Huge,
    /// No service answers.
    Hang,
    /// Every service answers with something that is not of its protocol.
    Junk,
    /// The issuer of tokens lies when somebody logs in.
    Login(LoginFault),
}

/// How the issuer lies to somebody who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginFault {
    /// It says that it is somebody else.
    Impostor,
    /// The browser comes back with the state of another log-in.
    State,
    /// The person says no.
    Denied,
    /// No token is given for the code.
    Refused,
    /// The answer holds no identity token.
    NoToken,
    /// The token was given for another log-in.
    Nonce,
    /// The token is for another program.
    Audience,
    /// The token is by another issuer.
    Issuer,
}

/// Who a token is for.
#[derive(Clone, Debug)]
pub struct Person {
    claims: Value,
}

impl Person {
    /// The owner of an e-mail address, vouched for by `issuer`.
    #[must_use]
    pub fn email(issuer: &str, email: &str) -> Self {
        Self { claims: json!({"iss": issuer, "sub": "someone", "email": email, "email_verified": true}) }
    }

    /// A GitHub workflow, as `workflow` of `repository` at `git_ref`.
    #[must_use]
    pub fn github(repository: &str, workflow: &str, git_ref: &str) -> Self {
        Self::github_on("github.com", "https://token.actions.githubusercontent.com", repository, workflow, git_ref)
    }

    /// The same on the server at `host`, vouched for by `issuer`.
    #[must_use]
    pub fn github_on(host: &str, issuer: &str, repository: &str, workflow: &str, git_ref: &str) -> Self {
        let workflow = format!("{repository}/.github/workflows/{workflow}@{git_ref}");
        Self {
            claims: json!({
                "iss": issuer,
                "server": host,
                "sub": format!("repo:{repository}:ref:{git_ref}"),
                "repository": repository,
                "repository_owner": repository.split('/').next(),
                "ref": git_ref,
                "sha": "0123456789abcdef0123456789abcdef01234567",
                "job_workflow_ref": workflow,
                "workflow_ref": workflow,
                "runner_environment": "github-hosted",
                "event_name": "push",
                "repository_id": "1001",
                "repository_owner_id": "2002",
                "repository_visibility": "public",
            }),
        }
    }

    /// A GitLab pipeline of `project` at `git_ref`.
    #[must_use]
    pub fn gitlab(project: &str, git_ref: &str) -> Self {
        Self::gitlab_on("gitlab.com", project, git_ref)
    }

    /// The same on the server at `host`.
    #[must_use]
    pub fn gitlab_on(host: &str, project: &str, git_ref: &str) -> Self {
        let config = format!("{host}/{project}//.gitlab-ci.yml@{git_ref}");
        Self {
            claims: json!({
                "iss": format!("https://{host}"),
                "server": host,
                "sub": format!("project_path:{project}:ref_type:branch:ref:main"),
                "project_path": project,
                "ci_config_ref_uri": config,
                "ref": git_ref,
                "runner_environment": "gitlab-hosted",
                "pipeline_source": "push",
            }),
        }
    }

    /// A service account of a Kubernetes cluster.
    #[must_use]
    pub fn kubernetes(namespace: &str, account: &str) -> Self {
        Self {
            claims: json!({
                "iss": "https://kubernetes.default.svc",
                "sub": format!("system:serviceaccount:{namespace}:{account}"),
                "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account}},
            }),
        }
    }

    /// A job of a project at CircleCI, in the organization `org`.
    #[must_use]
    pub fn circleci(org: &str, project: &str) -> Self {
        Self {
            claims: json!({
                "iss": format!("https://oidc.circleci.com/org/{org}"),
                "sub": format!("org/{org}/project/{project}/user/someone"),
                "oidc.circleci.com/project-id": project,
            }),
        }
    }

    /// Says one more thing in the token.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// A token for them that is valid for ten minutes. Nobody signed it: the authority here believes everybody.
    #[must_use]
    pub fn token(&self) -> String {
        self.token_until(SystemTime::now() + Duration::from_mins(10))
    }

    /// A token that expires at `end`.
    #[must_use]
    pub fn token_until(&self, end: SystemTime) -> String {
        let mut claims = self.claims.clone();
        if claims["aud"].is_null() {
            claims["aud"] = "sigstore".into();
        }
        claims["exp"] = seconds(end).into();
        claims["iat"] = seconds(SystemTime::now()).into();
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&json!({"alg": "none"})), part(&claims), BASE64_URL_SAFE_NO_PAD.encode("unsigned"))
    }
}

/// The services' keys and what they remember.
struct State {
    ca: CertificateAuthority,
    foreign_ca: CertificateAuthority,
    ct: Key,
    foreign_ct: Key,
    v1: Log,
    v2: Log,
    tsa: TimeStampAuthority,
    second_tsa: TimeStampAuthority,
    foreign_tsa: TimeStampAuthority,
    people: login::Provider,
    fault: Option<Fault>,
    asked: Vec<String>,
}

/// A running instance. Dropping it stops it.
pub struct Instance {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Instance {
    /// Starts one on a free port, with new keys.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start() -> io::Result<Self> {
        let state = State {
            ca: CertificateAuthority::new("blob test authority"),
            foreign_ca: CertificateAuthority::new("another authority"),
            ct: Key::new(),
            foreign_ct: Key::new(),
            v1: Log::new(log::Version::V1),
            v2: Log::new(log::Version::V2),
            tsa: TimeStampAuthority::new("blob test time"),
            second_tsa: TimeStampAuthority::new("second test time"),
            foreign_tsa: TimeStampAuthority::new("another time"),
            people: login::Provider::default(),
            fault: None,
            asked: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let (addr, stop, thread) = http::serve(Arc::clone(&state))?;
        Ok(Self { addr, state, stop: Some(stop), thread: Some(thread) })
    }

    /// The base address of the certificate authority.
    #[must_use]
    pub fn fulcio_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The base address of the log that speaks version 1.
    #[must_use]
    pub fn rekor_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The base address of the log that speaks version 2.
    #[must_use]
    pub fn rekor2_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address of the time-stamp authority.
    #[must_use]
    pub fn tsa_url(&self) -> String {
        format!("http://{}/api/v1/timestamp", self.addr)
    }

    /// The address of a second time-stamp authority, which signing configurations do not name.
    #[must_use]
    pub fn second_tsa_url(&self) -> String {
        format!("http://{}/second/timestamp", self.addr)
    }

    /// The issuer where people log in: whoever comes is Ann.
    #[must_use]
    pub fn login_url(&self) -> String {
        format!("http://{}{}", self.addr, login::PATH)
    }

    /// Where it listens, for a request of any other kind: `GET /token` answers with a token, as GitHub does.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes something go wrong, or right again.
    pub fn set(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// The requests so far: method and path.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    /// The `trusted_root.json` that names the services.
    #[must_use]
    pub fn trusted_root(&self) -> String {
        let state = self.lock();
        let start = json!({"start": "2020-01-01T00:00:00Z"});
        let key = |key: &Key| {
            json!({
                "rawBytes": BASE64_STANDARD.encode(key.spki()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": start,
            })
        };
        let log = |url: String, of: &Key| {
            json!({
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": key(of),
                "logId": {"keyId": BASE64_STANDARD.encode(of.id())},
            })
        };
        let authority = |url: String, chain: [&[u8]; 2]| {
            let certificates = chain.map(|der| json!({"rawBytes": BASE64_STANDARD.encode(der)}));
            json!({
                "subject": {"organization": "blob.test", "commonName": "blob"},
                "uri": url,
                "certChain": {"certificates": certificates},
                "validFor": start,
            })
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.rekor_url(), state.v1.key()), log(self.rekor2_url(), state.v2.key())],
            "certificateAuthorities": [authority(self.fulcio_url(), state.ca.chain())],
            "ctlogs": [log(format!("http://{}/ct", self.addr), &state.ct)],
            "timestampAuthorities": [
                authority(self.tsa_url(), state.tsa.chain()),
                authority(self.second_tsa_url(), state.second_tsa.chain()),
            ],
        })
        .to_string()
    }

    /// The `signing_config.json` that names the services; `v2` chooses the version of the log.
    #[must_use]
    pub fn signing_config(&self, v2: bool) -> String {
        let service = |url: String, version: u32| {
            json!({
                "url": url,
                "majorApiVersion": version,
                "validFor": {"start": "2020-01-01T00:00:00Z"},
                "operator": "blob.test",
            })
        };
        let log = if v2 { service(self.rekor2_url(), 2) } else { service(self.rekor_url(), 1) };
        json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service(self.fulcio_url(), 1)],
            "oidcUrls": [service(self.login_url(), 1)],
            "rekorTlogUrls": [log],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [service(self.tsa_url(), 1)],
            "tsaConfig": {"selector": "ANY"},
        })
        .to_string()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already; then there is nothing to stop.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
