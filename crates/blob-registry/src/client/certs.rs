//! `certs.d`: directories in which Docker, Podman and their kin keep the certificates of registries.
//!
//! Below each of them a directory is named for a registry, `host` or `host:port` as references write it. There `*.crt` are
//! authorities to trust, and `*.cert` with the `*.key` of the same name is a certificate to show (containers-certs.d(5),
//! "Verify repository client with certificates").

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::options::{ClientCertificate, RegistryOptions, RegistryOptionsError};

/// More files than this in the directory of one registry are not looked at.
const MOST_FILES: usize = 256;

/// Where certificates of registries lie. The first directory that has one for a registry is the one that counts.
///
/// ```
/// use blob_registry::client::{CertificateDirs, RegistryOptions};
///
/// let options = CertificateDirs::new(["/etc/acme/certs.d"]).options("registry.example:5000", RegistryOptions::default())?;
/// assert!(options.ca_files.is_empty(), "there is no such directory");
/// # Ok::<(), blob_registry::client::RegistryOptionsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateDirs(Vec<PathBuf>);

impl CertificateDirs {
    /// These directories, the first one first.
    pub fn new<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> Self {
        Self(directories.into_iter().map(Into::into).collect())
    }

    /// Those that other programs read: `~/.config/containers/certs.d`, `/etc/containers/certs.d`, `/etc/docker/certs.d`.
    pub fn from_env() -> Self {
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let own = home.map(|home| home.join(".config/containers/certs.d"));
        Self(own.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect())
    }

    /// `options` for the registry `host`, with what its directory holds: the authorities besides those of `options`, the
    /// certificate unless `options` have one. Of several certificates the first by name is shown. Only names are looked
    /// at here; what is in the files is read when a client is made.
    ///
    /// # Errors
    /// [`RegistryOptionsError::File`] for a directory that cannot be read, and for a certificate without its key or a
    /// key without its certificate.
    pub fn options(&self, host: &str, mut options: RegistryOptions) -> Result<RegistryOptions, RegistryOptionsError> {
        let Some(files) = self.files(host)? else { return Ok(options) };
        let with =
            |extension: &'static str| files.iter().filter(move |path| path.extension() == Some(OsStr::new(extension)));
        options.ca_files.extend(with("crt").cloned());
        let (chain, key) = (with("cert").next(), with("key").next());
        let paired = |one: Option<&PathBuf>, extension: &str| one.map(|path| path.with_extension(extension));
        for (one, other) in [(chain, paired(chain, "key")), (key, paired(key, "cert"))] {
            if let (Some(path), Some(missing)) = (one, other)
                && !files.contains(&missing)
            {
                let detail = format!("it needs {} beside it", missing.display());
                return Err(RegistryOptionsError::File { path: path.clone(), source: io::Error::other(detail) });
            }
        }
        if let (Some(chain), Some(key)) = (chain, paired(chain, "key")) {
            let own = ClientCertificate { chain: chain.clone(), key };
            options.client_certificate = options.client_certificate.or(Some(own));
        }
        Ok(options)
    }

    /// The files of the first directory for `host`, by name.
    fn files(&self, host: &str) -> Result<Option<Vec<PathBuf>>, RegistryOptionsError> {
        // A host is one element of a path, and no way out of the directory.
        if host.is_empty() || host.starts_with('.') || host.contains(['/', '\\', '\0']) {
            return Ok(None);
        }
        for directory in self.0.iter().map(|directory| directory.join(host)) {
            match list(&directory) {
                Ok(files) => return Ok(Some(files)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(RegistryOptionsError::File { path: directory, source }),
            }
        }
        Ok(None)
    }
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)?.take(MOST_FILES);
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn put(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn the_first_directory_for_a_host_counts() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        put(
            root.path(),
            &[
                "user/a.example:5000/ca.crt",
                "user/a.example:5000/other.crt",
                "user/a.example:5000/client.cert",
                "user/a.example:5000/client.key",
                "user/a.example:5000/notes.txt",
                "system/a.example:5000/never.crt",
                "system/b.example/ca.crt",
            ],
        );
        let dirs = CertificateDirs::new([at("absent"), at("user"), at("system")]);
        let found = dirs.options("a.example:5000", RegistryOptions::default().with_ca_file("/own.pem")).unwrap();
        let names = ["ca.crt", "other.crt"].map(|name| at("user/a.example:5000").join(name));
        assert_eq!(found.ca_files, [PathBuf::from("/own.pem"), names[0].clone(), names[1].clone()]);
        let own = found.client_certificate.unwrap();
        assert_eq!(own.chain, at("user/a.example:5000/client.cert"));
        assert_eq!(own.key, at("user/a.example:5000/client.key"));
        let mine = RegistryOptions::default().with_client_certificate("/c", "/k");
        let kept = dirs.options("a.example:5000", mine).unwrap().client_certificate.unwrap();
        assert_eq!(kept.chain, Path::new("/c"), "what was said outright counts");
        let found = dirs.options("b.example", RegistryOptions::default()).unwrap();
        assert_eq!(found.ca_files, [at("system/b.example/ca.crt")]);
        for other in ["a.example", "c.example", "", "..", ".", "../user/a.example:5000", "a/b"] {
            assert!(dirs.options(other, RegistryOptions::default()).unwrap().ca_files.is_empty(), "{other}");
        }
    }

    #[test]
    fn half_a_pair_is_told() {
        for (has, misses) in [("client.cert", "client.key"), ("client.key", "client.cert")] {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), &[&format!("a.example/{has}")]);
            let error = CertificateDirs::new([root.path()]).options("a.example", RegistryOptions::default());
            let error = error.unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(error.to_string().contains(has) && cause.contains(misses), "{error}: {cause}");
        }
    }
}
