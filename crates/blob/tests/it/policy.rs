//! Policies decide before the first byte of an archive is used.

use std::sync::Arc;

use async_trait::async_trait;
use blob::policy::{Policy, PolicyError, Report, Subject};
use blob::{Client, PullOptions, PushOptions};
use blob_testkit::proxy::ProxyOptions;

use crate::support::{at, client, proxy, serve, tree};

/// Admits archives that carry an annotation.
#[derive(Debug)]
struct Annotated(&'static str);

#[async_trait]
impl Policy for Annotated {
    async fn evaluate(&self, subject: &Subject<'_>) -> Result<Report, PolicyError> {
        let text = String::from_utf8_lossy(subject.bytes()).into_owned();
        assert!(subject.descriptor().digest.matches(subject.bytes()));
        if text.contains(self.0) {
            return Ok(Report::admitted("annotated", self.0));
        }
        Err(PolicyError::rejected("annotated", format!("there is no {}", self.0)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_archive_costs_one_request_and_gives_nothing() {
    let (server, source) = (serve().await, tree(40, 3));
    let mut options = PushOptions::default();
    options.annotations.insert("stage".into(), "released".into());
    client().push(&at(server.local_addr(), "v1"), source.path(), &options).await.unwrap();

    let proxy = proxy(server.local_addr(), ProxyOptions::default());
    let location = at(proxy.addr(), "v1");
    let strict = Client::builder().policy(Arc::new(Annotated("approved"))).build().unwrap();
    for error in [
        strict.pull(&location, &PullOptions::default()).await.map(drop).unwrap_err(),
        strict.fetch(&location).await.map(drop).unwrap_err(),
        strict.inspect(&location, &PullOptions::default()).await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_policy_violation(), "{error:?}");
    }
    assert_eq!(proxy.take().len(), 3);

    let lenient = Client::builder().policy(Arc::new(Annotated("released"))).require_verified().build().unwrap();
    let archive = lenient.pull(&location, &PullOptions::default()).await.unwrap();
    assert!(archive.manifest().is_verified());
    assert_eq!(archive.manifest().report().unwrap().checks[0].finding, "released");
    let both = Client::builder().policy(Arc::new(Annotated("released"))).policy(Arc::new(Annotated("approved")));
    assert!(both.build().unwrap().pull(&location, &PullOptions::default()).await.is_err());
    let mut other = PullOptions::default();
    other.policy = Some(Arc::new(Annotated("released")));
    assert!(strict.pull(&location, &other).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_can_be_required_without_a_policy() {
    let (server, source) = (serve().await, tree(41, 3));
    client().push(&at(server.local_addr(), "v1"), source.path(), &PushOptions::default()).await.unwrap();
    let strict = Client::builder().require_verified().build().unwrap();
    let error = strict.pull(&at(server.local_addr(), "v1"), &PullOptions::default()).await.map(drop).unwrap_err();
    assert!(error.is_policy_violation(), "{error:?}");
    let open = client().pull(&at(server.local_addr(), "v1"), &PullOptions::default()).await.unwrap();
    assert!(!open.manifest().is_verified());
}
