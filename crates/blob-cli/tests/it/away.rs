//! Verification when the registry cannot be reached any more.

use std::fs;

use serde_json::Value;

use crate::support::{Place, stderr, stdout};

const BY_KEY: &str = "--key k.pub --insecure-ignore-tlog";
const REF: &str = "HOST/team/project:v1";

fn run(place: &Place, line: &str) -> snapbox::cmd::OutputAssert {
    place.assert(place.command(line).env("BLOB_KEY_PASSWORD", "secret").env("BLOB_PROGRESS", "never"))
}

#[test]
fn signatures_that_were_verified_once_are_verified_offline() {
    let mut place = Place::pushed();
    for name in ["k", "other"] {
        run(&place, &format!("generate-key-pair {name}")).success();
    }
    run(&place, &format!("sign --key k.key {REF}")).success();
    run(&place, "push -q HOST/team/other:v1 project").success();
    run(&place, "pull -q HOST/team/other:v1 other").success();
    let online = stdout(&run(&place, &format!("verify {BY_KEY} {REF} -o json")).success());
    assert!(!online.contains("evidence_listed_at"), "{online}");
    run(&place, &format!("cat {BY_KEY} {REF} README.md")).success();
    place.stop_server();
    // No earlier verdict counts: those last for five minutes.
    fs::remove_dir_all(place.path("home/.cache/blob/verdicts-v1")).unwrap();
    let verified = stdout(&run(&place, &format!("--offline verify {BY_KEY} {REF}")).success());
    assert!(verified.contains("  Evidence: from the cache, as listed at 20"), "{verified}");
    let json = stdout(&run(&place, &format!("--offline verify {BY_KEY} {REF} -o json")).success());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["evidence_listed_at"].as_str().unwrap().ends_with('Z'), "{json}");
    let read = run(&place, &format!("-v --offline cat {BY_KEY} {REF} README.md")).success();
    assert_eq!(stdout(&read), "# Sample\n");
    assert!(stderr(&read).contains("the evidence is from the cache, as listed at"), "{}", stderr(&read));
    // A key that did not sign is refused as ever, and what nobody verified cannot be told.
    run(&place, &format!("--offline verify --key other.pub --insecure-ignore-tlog {REF}")).code(6);
    let unknown = run(&place, &format!("--offline cat {BY_KEY} HOST/team/other:v1 README.md")).code(5);
    let said = stderr(&unknown);
    assert!(said.contains("the cache does not have the list of referrers about sha256:"), "{said}");
    assert!(said.contains("hint: verify it once without --offline"), "{said}");
    assert_eq!(stdout(&unknown), "");
    // Without the cache for tags nothing is known.
    run(&place, "cache clear -q --force refs").success();
    assert!(!place.path("home/.cache/blob/verdicts-v1").exists(), "what an old list says is no verdict for others");
    let digest = json["digest"].as_str().unwrap();
    run(&place, &format!("--offline cat {BY_KEY} HOST/team/project@{digest} README.md")).code(5);
}
