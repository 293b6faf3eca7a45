//! Writing logins: to the file that Docker, Podman and Skopeo share, or to the helper that the file names.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::document::{Object, indent_of};
use super::{Credential, CredentialsError, docker, environment, helper, is_docker_hub};

/// A lock that others hold for longer is not waited for. They hold it while they rewrite one small file.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file that logins are kept in.
///
/// Everything in the file that is not the login of the host stays as it is, members that are not known included. The
/// file is replaced as a whole, readable for its owner only; two processes that log in at the same time lose nothing.
///
/// ```
/// use blob_registry::client::{Credential, CredentialStore};
/// # let directory = std::env::temp_dir().join(format!("blob-login-{}", std::process::id()));
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
///
/// let store = CredentialStore::new(directory.join("config.json"));
/// store.save("registry.example", &Credential::basic("ann", "secret")).await?;
/// assert!(store.remove("registry.example").await?);
/// # Ok::<(), blob_registry::client::CredentialsError>(())
/// # }).unwrap();
/// # std::fs::remove_dir_all(directory).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct CredentialStore {
    path: PathBuf,
}

/// Where a login was put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// In the file itself, in a form that everybody can decode who can read it.
    File(PathBuf),
    /// With this credential helper.
    Helper(String),
}

impl CredentialStore {
    /// Keeps logins in the file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Keeps logins where the environment says: in the file that `REGISTRY_AUTH_FILE` names, else in `config.json` in
    /// `DOCKER_CONFIG`, else in `~/.docker`. This is the file that [`Chain::from_env`](super::Chain::from_env) asks first.
    ///
    /// # Errors
    /// [`CredentialsError::NoHome`].
    pub fn from_env() -> Result<Self, CredentialsError> {
        let path = environment::login_file(&|name| std::env::var_os(name)).ok_or(CredentialsError::NoHome)?;
        Ok(Self { path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps `credential` for `host` (`host` or `host:port`), replacing an earlier one.
    ///
    /// # Errors
    /// [`CredentialsError::File`] and [`CredentialsError::Malformed`]; [`CredentialsError::Helper`] if the file names a
    /// helper and that fails, and for access tokens, which helpers cannot keep.
    pub async fn save(&self, host: &str, credential: &Credential) -> Result<Saved, CredentialsError> {
        let config = self.config()?;
        let key = key_of(host);
        let Some(name) = config.store_for(host).map(str::to_owned) else {
            self.edit(host, Some(entry(credential))).await?;
            return Ok(Saved::File(self.path.clone()));
        };
        helper::store(&name, key, credential).await?;
        // As Docker does: the empty entry says that there is a login, and an old one must not stay readable.
        self.edit(host, Some("{}".into())).await?;
        Ok(Saved::Helper(name))
    }

    /// Forgets the credential for `host`; whether there was one.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn remove(&self, host: &str) -> Result<bool, CredentialsError> {
        let config = self.config()?;
        let mut found = false;
        if let Some(name) = config.store_for(host).map(str::to_owned) {
            found = helper::erase(&name, key_of(host)).await?;
        }
        if self.path.exists() {
            found |= self.edit(host, None).await?;
        }
        Ok(found)
    }

    /// Where [`save`](Self::save) would keep a login for `host`. Nothing is changed.
    ///
    /// # Errors
    /// [`CredentialsError::File`] and [`CredentialsError::Malformed`].
    pub fn place_for(&self, host: &str) -> Result<Saved, CredentialsError> {
        let helper = self.config()?.store_for(host).map(str::to_owned);
        Ok(helper.map_or_else(|| Saved::File(self.path.clone()), Saved::Helper))
    }

    /// Whether there is a login for `host` that [`remove`](Self::remove) would forget. Nothing is changed.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn holds(&self, host: &str) -> Result<bool, CredentialsError> {
        let config = self.config()?;
        if let Some(name) = config.store_for(host)
            && helper::get(name, key_of(host)).await?.is_some()
        {
            return Ok(true);
        }
        let text = match docker::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(CredentialsError::File { path: self.path.clone(), source }),
        };
        // Taking it out of a copy says whether it is in there.
        edited(&text, host, None).map(|(_, found)| found).map_err(|detail| malformed(&self.path, &detail))
    }

    fn config(&self) -> Result<docker::DockerConfig, CredentialsError> {
        docker::DockerConfig::load_or_empty(&self.path)
    }

    /// Sets the entry of `host` to `entry`, or takes it out; whether there was one.
    async fn edit(&self, host: &str, entry: Option<String>) -> Result<bool, CredentialsError> {
        let (path, host) = (self.path.clone(), host.to_owned());
        let task = tokio::task::spawn_blocking(move || change(&path, &host, entry));
        task.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}

/// The key of a host in the file, which is also what helpers know it by.
fn key_of(host: &str) -> &str {
    if is_docker_hub(host) { docker::DOCKER_HUB_KEY } else { host }
}

/// What stands in the file for a credential.
fn entry(credential: &Credential) -> String {
    let encode = |user: &str, password: &str| BASE64_STANDARD.encode(format!("{user}:{password}"));
    let members = match credential {
        Credential::Basic { user, password } => json!({ "auth": encode(user, password.expose()) }),
        // Others pass over entries whose user they cannot read.
        Credential::IdentityToken(token) => json!({ "auth": encode("<token>", ""), "identitytoken": token.expose() }),
        Credential::RegistryToken(token) => json!({ "registrytoken": token.expose() }),
    };
    let members = members.as_object().into_iter().flatten().map(|(name, value)| format!("\n\t\t\t\"{name}\": {value}"));
    format!("{{{}\n\t\t}}", members.collect::<Vec<_>>().join(","))
}

/// Changes the file at `path`.
fn change(path: &Path, host: &str, entry: Option<String>) -> Result<bool, CredentialsError> {
    let fail = |source| CredentialsError::File { path: path.to_owned(), source };
    // Who keeps the file elsewhere and links to it shall find it there.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    make_directory(&directory).map_err(fail)?;
    let _turn = lock(&directory, PATIENCE).map_err(fail)?;
    let text = match docker::read(&target) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| malformed(path, "it is not UTF-8"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fail(error)),
    };
    let (text, found) = edited(&text, host, entry).map_err(|detail| malformed(path, &detail))?;
    if let Some(text) = text {
        replace(&directory, &target, text.as_bytes()).map_err(fail)?;
    }
    Ok(found)
}

fn malformed(path: &Path, detail: &str) -> CredentialsError {
    CredentialsError::Malformed { path: path.to_owned(), detail: detail.to_owned() }
}

/// The document with the entry of `host` changed, if that changes anything, and whether there was one.
fn edited(text: &str, host: &str, entry: Option<String>) -> Result<(Option<String>, bool), String> {
    // The parser's message may quote a value, and values here are secrets.
    let place =
        |error: serde_json::Error| format!("line {}, column {} is not the expected JSON", error.line(), error.column());
    let mut document: Object =
        if text.trim().is_empty() { Object::default() } else { serde_json::from_str(text).map_err(place)? };
    let mut auths: Object = match document.text("auths") {
        Some("null") | None => Object::default(),
        Some(auths) => serde_json::from_str(auths).map_err(|_| "\"auths\" is not an object of entries".to_owned())?,
    };
    let found = auths.names().any(|key| docker::is_key_of(key, host));
    if !found && entry.is_none() {
        return Ok((None, false));
    }
    let key = auths.names().find(|key| *key == key_of(host)).map_or_else(|| key_of(host).to_owned(), str::to_owned);
    auths.remove(|known| docker::is_key_of(known, host) && (entry.is_none() || known != key));
    if let Some(entry) = entry {
        auths.set(&key, entry).map_err(place)?;
    }
    let indent = indent_of(text);
    document.set("auths", auths.print(indent, 1)).map_err(place)?;
    let end = if text.is_empty() || text.ends_with('\n') { "\n" } else { "" };
    Ok((Some(document.print(indent, 0) + end), found))
}

#[cfg(unix)]
fn make_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(not(unix))]
fn make_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Keeps other processes of ours from changing files of `directory` as long as it lives. Where directories cannot be
/// locked, the last writer wins.
///
/// # Errors
/// `TimedOut` when another process holds it for all of `patience`, and the operating system's.
fn lock(directory: &Path, patience: Duration) -> io::Result<Option<File>> {
    let Ok(handle) = File::open(directory) else { return Ok(None) };
    let begun = Instant::now();
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(Some(handle)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another program has held {} locked for {patience:?}", directory.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Err(TryLockError::Error(error)) if has_no_locks(&error) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether a file system has no locks, or none left: network file systems without a lock service say so.
fn has_no_locks(error: &io::Error) -> bool {
    /// `ENOLCK` of Linux.
    const NO_LOCKS: i32 = 37;
    error.kind() == io::ErrorKind::Unsupported || (cfg!(target_os = "linux") && error.raw_os_error() == Some(NO_LOCKS))
}

/// Puts a file with these bytes in the place of `target`, for its owner's eyes only.
fn replace(directory: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(target).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What a killed process left behind under the same number; the lock is ours.
    let _ = fs::remove_file(&temporary);
    let mut file = options.open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, target));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::{Credentials as _, DockerConfig};

    const DOCKER: &str = "{\n\t\"auths\": {\n\t\t\"a\": {\n\t\t\t\"auth\": \"eDp5\",\n\t\t\t\"email\": \"x@y\"\n\t\t}\n\t},\n\t\"HttpHeaders\": {\n\t\t\"User-Agent\": \"x\"\n\t},\n\t\"psFormat\": \"{{.ID}}\"\n}";

    #[test]
    fn everything_else_stays_as_it_is() {
        let login = Some("{\n\t\t\t\"auth\": \"dTpw\"\n\t\t}".to_owned());
        let (text, found) = edited(DOCKER, "b:5000", login.clone()).unwrap();
        let expected =
            DOCKER.replace("\n\t\t}\n\t},", "\n\t\t},\n\t\t\"b:5000\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t},");
        assert_eq!((text.as_deref(), found), (Some(expected.as_str()), false));
        let (text, found) = edited(&expected, "b:5000", None).unwrap();
        assert_eq!((text.as_deref(), found), (Some(DOCKER), true));
        assert_eq!(edited(DOCKER, "b:5000", None).unwrap(), (None, false));
        let (text, _) = edited("", "h", login).unwrap();
        assert_eq!(text.unwrap(), "{\n\t\"auths\": {\n\t\t\"h\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t}\n}\n");
    }

    #[test]
    fn old_spellings_of_a_host_are_replaced() {
        let text = r#"{"auths":{"https://h/v1/":{},"h":{},"h/team":{},"docker.io":{}}}"#;
        let (text, found) = edited(text, "h", Some("{}".into())).unwrap();
        assert!(found);
        assert_eq!(
            text.unwrap(),
            "{\n\t\"auths\": {\n\t\t\"h\": {},\n\t\t\"h/team\": {},\n\t\t\"docker.io\": {}\n\t}\n}"
        );
        let hub = edited(r#"{"auths":{"docker.io":{}}}"#, "docker.io", Some("{}".into())).unwrap().0.unwrap();
        assert_eq!(hub, "{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {}\n\t}\n}");
    }

    #[test]
    fn malformed_files_are_left_alone_and_never_quoted() {
        for bad in ["canary", r#"{"auths":"canary"}"#, r#"{"auths":{"h":canary}}"#, r#"["canary"]"#] {
            let error = edited(bad, "h", Some("{}".into())).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_is_saved_is_found_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real.json"), directory.path().join("config.json"));
        fs::write(&real, DOCKER).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let store = CredentialStore::new(&link);
        for credential in
            [Credential::basic("u", "p:q"), Credential::identity_token("t"), Credential::registry_token("t")]
        {
            assert_eq!(store.save("h:5000", &credential).await.unwrap(), Saved::File(link.clone()));
            let found = DockerConfig::load(&link).unwrap().lookup("h:5000", None).await.unwrap();
            assert_eq!(found, Some(credential));
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link stays");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(store.remove("h:5000").await.unwrap() && !store.remove("h:5000").await.unwrap());
        assert_eq!(fs::read_to_string(&real).unwrap(), DOCKER);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");
        let nothing = CredentialStore::new(directory.path().join("none/config.json"));
        assert!(!nothing.remove("h").await.unwrap());
        assert!(!directory.path().join("none").exists());
    }

    #[test]
    fn who_holds_the_lock_for_ever_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path(), Duration::ZERO).unwrap();
        let error = lock(directory.path(), Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held);
        assert!(lock(directory.path(), Duration::ZERO).unwrap().is_some());
        assert!(has_no_locks(&io::ErrorKind::Unsupported.into()));
        assert_eq!(has_no_locks(&io::Error::from_raw_os_error(37)), cfg!(target_os = "linux"));
    }

    #[tokio::test]
    async fn many_logins_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = CredentialStore::new(directory.path().join("new/config.json"));
        let hosts: Vec<String> = (0..20).map(|number| format!("h{number}")).collect();
        let credential = Credential::basic("u", "p");
        let saves = hosts.iter().map(|host| store.save(host, &credential));
        futures_util::future::try_join_all(saves).await.unwrap();
        let config = DockerConfig::load(store.path()).unwrap();
        for host in &hosts {
            assert!(config.lookup(host, None).await.unwrap().is_some(), "{host}");
        }
    }
}
