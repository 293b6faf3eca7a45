//! Tokens of our own server: how their scopes grow with what is done, and how they are renewed.

use std::sync::Arc;
use std::time::Duration;

use blob_core::{Digest, MemorySource};
use blob_registry::client::{Credential, RegistryClient, Static};
use blob_registry::server::Auth;
use blob_registry::{MemoryRegistry, Mount, PushBlob, Registry, Server, ServerHandle};
use blob_testkit::proxy::{Proxy, ProxyHandle, ProxyOptions};

use super::{builder, repository};

/// A server whose tokens hold for `lifetime`, with one blob in `team/source`, behind a proxy that counts.
async fn issuer(lifetime: Duration) -> (ServerHandle, ProxyHandle, RegistryClient, Digest) {
    let registry = MemoryRegistry::new();
    let digest = Digest::sha256_of(b"content");
    let push = PushBlob::new(digest, Arc::new(MemorySource::new(&b"content"[..])));
    registry.push_blob(&repository("team/source"), push).await.unwrap();
    let auth = Auth::bearer("reg").user("ann", "secret").token_lifetime(lifetime);
    let server = Server::builder(Arc::new(registry)).auth(auth).bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr(), ProxyOptions::default()).unwrap();
    let ann = Static::new().with(proxy.addr().to_string(), Credential::basic("ann", "secret"));
    let client = builder(proxy.addr()).credentials(ann).build().unwrap();
    (server, proxy, client, digest)
}

/// How many tokens were asked for since the last time, and how many requests were refused.
fn tokens(proxy: &ProxyHandle) -> (usize, usize) {
    let seen = proxy.take();
    let asked = seen.iter().filter(|request| request.path == "/token").count();
    (asked, seen.iter().filter(|request| request.status == Some(401)).count())
}

#[tokio::test]
async fn scopes_grow_with_what_is_done() {
    let (_server, proxy, client, digest) = issuer(Duration::from_mins(5)).await;
    let (source, target) = (repository("team/source"), repository("team/target"));
    client.stat_blob(&source, &digest).await.unwrap();
    assert_eq!(tokens(&proxy), (1, 1), "one refusal tells what is needed");
    client.stat_blob(&source, &digest).await.unwrap();
    assert_eq!(tokens(&proxy), (0, 0));
    // To push to one and read the other takes a token for both.
    let mounted = client.mount_blob(&target, &digest, Some(&source)).await.unwrap();
    assert!(matches!(mounted, Mount::Mounted));
    assert!(tokens(&proxy).0 >= 1);
    // What was granted once is not asked for again, whatever is done with it.
    for repository in [&source, &target] {
        client.stat_blob(repository, &digest).await.unwrap();
    }
    let mounted = client.mount_blob(&target, &digest, Some(&source)).await.unwrap();
    assert!(matches!(mounted, Mount::Mounted));
    let push = PushBlob::new(Digest::sha256_of(b"more"), Arc::new(MemorySource::new(&b"more"[..])));
    client.push_blob(&target, push).await.unwrap();
    assert_eq!(tokens(&proxy), (0, 0));
    // Deleting is another action.
    client.delete_blob(&target, &digest).await.unwrap();
    assert_eq!(tokens(&proxy).0, 1);
    assert!(client.stat_blob(&target, &digest).await.unwrap_err().is_not_found());
    client.stat_blob(&source, &digest).await.unwrap();
}

#[tokio::test]
async fn tokens_are_renewed_when_they_end() {
    let lifetime = Duration::from_secs(1);
    let (_server, proxy, client, digest) = issuer(lifetime).await;
    let (source, target) = (repository("team/source"), repository("team/target"));
    for _ in 0..2 {
        client.stat_blob(&source, &digest).await.unwrap();
        client.mount_blob(&target, &digest, Some(&source)).await.unwrap();
        assert!(tokens(&proxy).0 >= 1, "what has ended is asked for anew");
        tokio::time::sleep(lifetime + Duration::from_millis(100)).await;
    }
}
