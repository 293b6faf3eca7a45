//! Logins that are kept in files: ours are read by Skopeo, and Skopeo's by us.

use std::path::Path;

use blob_registry::client::{Admission, Credential, CredentialStore, DockerConfig};
use blob_registry::{ErrorCode, PageRequest, Registry as _, RegistryExt as _};
use blob_testkit::peers::{DockerRegistry, Security, require, skopeo};
use tokio::process::Command;

use super::{builder, repository};

/// What Skopeo says to `words`, if it likes them.
async fn run(program: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(words).env_remove("REGISTRY_AUTH_FILE").env("HOME", "/nonexistent").kill_on_drop(true);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[tokio::test]
async fn one_file_serves_skopeo_and_us() {
    let security = Security { htpasswd: Some(Security::ANN.into()), ..Security::default() };
    let Some(registry) = require("docker-registry", DockerRegistry::start_with(&security)) else { return };
    let Some(skopeo) = require("skopeo", skopeo()) else { return };
    let (host, directory) = (registry.addr().to_string(), tempfile::tempdir().unwrap());
    let file = directory.path().join("auth.json");
    let path = file.to_str().unwrap();
    // What we write, Skopeo reads.
    let store = CredentialStore::new(&file);
    store.save(&host, &Credential::basic("ann", "secret")).await.unwrap();
    let client = builder(registry.addr()).credentials(DockerConfig::load(&file).unwrap()).build().unwrap();
    assert_eq!(client.authenticate().await.unwrap(), Admission::Admitted);
    let name = repository("team/app");
    client.ensure_empty_config(&name).await.unwrap();
    let manifest = blob_registry::ImageManifest::artifact("a/b", vec![]).to_bytes();
    let push = blob_registry::PushManifest::new(blob_registry::media_type::IMAGE_MANIFEST, manifest);
    client.push_manifest(&name, push.with_tags([super::tag("v1")])).await.unwrap();
    let image = format!("docker://{host}/team/app:v1");
    let inspect = ["inspect", "--raw", "--tls-verify=false", "--authfile", path, image.as_str()];
    assert!(run(&skopeo, &inspect).await.unwrap().contains("a/b"));
    // Skopeo logs out of what we logged in to.
    run(&skopeo, &["logout", "--authfile", path, &host]).await.unwrap();
    assert!(!store.remove(&host).await.unwrap(), "Skopeo took it out");
    assert!(run(&skopeo, &inspect).await.is_err());
    // What Skopeo writes, we read, and what it does not like we do not change.
    let login = ["login", "--authfile", path, "--tls-verify=false", "-u", "ann", "-p", "secret", host.as_str()];
    run(&skopeo, &login).await.unwrap();
    let client = builder(registry.addr()).credentials(DockerConfig::load(&file).unwrap()).build().unwrap();
    assert_eq!(client.authenticate().await.unwrap(), Admission::Admitted);
    assert_eq!(client.tags(&name, &PageRequest::first()).await.unwrap().items.len(), 1);
    assert!(store.remove(&host).await.unwrap());
    let client = builder(registry.addr()).credentials(DockerConfig::load(&file).unwrap()).build().unwrap();
    assert_eq!(client.authenticate().await.unwrap_err().error_code(), ErrorCode::Unauthorized);
}
