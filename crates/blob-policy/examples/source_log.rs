//! Where a policy over the history of the source would stand, such as one that asks gittuf whether a commit was allowed onto its
//! branch. It takes repository and commit from verified provenance, and asks a log of the source about them.
#![allow(clippy::print_stdout)] // an example says what it does

use std::error::Error;
use std::sync::Arc;

use blob_policy::sigstore::{Identity, SigstorePolicy, TrustRoot};
use blob_policy::slsa::{Build, BuildRule, Provenance};
use blob_policy::{NoEvidence, Policy as _, Subject};
use blob_registry::{Descriptor, media_type};
use bytes::Bytes;

/// Says whether a commit came onto a branch as the rules of its repository ask.
trait SourceLog: std::fmt::Debug + Send + Sync {
    fn allowed(&self, repository: &str, commit: &str, git_ref: &str) -> Result<(), String>;
}

/// Here a program would verify the repository's own log, from a root of trust that it was given.
#[derive(Debug)]
struct Listed(Vec<(&'static str, &'static str)>);

impl SourceLog for Listed {
    fn allowed(&self, repository: &str, commit: &str, git_ref: &str) -> Result<(), String> {
        let known = self.0.contains(&(repository, commit));
        if known { Ok(()) } else { Err(format!("{commit} is not in the log of {repository} for {git_ref}")) }
    }
}

/// The rule: it sees only provenance that was verified, and met everything else.
#[derive(Debug)]
struct InLog(Box<dyn SourceLog>);

impl BuildRule for InLog {
    fn check(&self, build: &Build<'_>) -> Result<String, String> {
        let repository = build.source_repository.ok_or("the provenance names no source repository")?;
        let commit = build.commit.ok_or("the provenance names no commit")?;
        let git_ref = build.source_ref.ok_or("the provenance names no ref")?;
        self.0.allowed(repository, commit, git_ref)?;
        Ok(format!("{commit} is in the log of {repository}"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let log = Listed(vec![("https://github.com/acme/app", "ebff8dfbd609b7b22237c7719ce07f2dc7934f5f")]);
    let built = Provenance::github_actions_workflow("acme/app")?.branches(["main"])?;
    let built = built.rule(Arc::new(InLog(Box::new(log))));
    let signer = Identity::github_actions("acme/app")?.into();
    let policy = SigstorePolicy::new(TrustRoot::production()?, vec![signer])?.rule(Arc::new(built));

    // An archive that nobody vouches for.
    let manifest = Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
    let refused = policy.evaluate(&Subject::new(&descriptor, &manifest, &NoEvidence)?).await;
    println!("{}", refused.map(drop).expect_err("because there is no evidence"));
    Ok(())
}
