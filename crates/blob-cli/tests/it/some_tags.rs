//! Several tags, of which a registry takes some.

use crate::support::{Place, Server, stderr, stdout};

/// A server whose tags are set once, with the project as `team/project:v1`, another archive as `taken`, and its address.
fn immutable() -> (Place, Server) {
    let (place, server) = (Place::offline(), Server::start(&["--immutable-tags"]));
    place.run(&format!("push -q --reproducible {}/team/project:v1 project", server.addr)).success();
    place.run(&format!("push -q {}/team/project:taken project/docs", server.addr)).success();
    (place, server)
}

#[test]
fn the_tags_that_can_be_set_are_set_and_told() {
    let (place, server) = immutable();
    let repository = format!("{}/team/project", server.addr);
    let failed = place.run(&format!("tag {repository}:v1 a taken b")).code(8).stdout_eq("");
    let text = stderr(&failed);
    assert!(text.contains("the tags a, b are set, and not taken: "), "{text}");
    assert!(text.contains("DENIED"), "{text}");
    assert_eq!(stdout(&place.run(&format!("tags {repository}")).success()), "a\nb\ntaken\nv1\n");

    let failed = place.run(&format!("tag -o json {repository}:v1 taken c")).code(8).stdout_eq("");
    let error: serde_json::Value = serde_json::from_str(&stderr(&failed)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["kind"]), (&8.into(), &"partial".into()));
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("the tags c are set, and not taken"), "{message}");
}

#[test]
fn a_push_under_several_tags_says_which_are_set() {
    let (place, server) = immutable();
    let repository = format!("{}/team/project", server.addr);
    let failed = place.run(&format!("push -t taken -t more {repository}:new project/config")).code(8).stdout_eq("");
    let text = stderr(&failed);
    assert!(text.contains("the tags new, more are set, and not taken: "), "{text}");
    place.run(&format!("cat {repository}:more app.yaml")).success();
    // What is unchanged has its first tag already.
    let failed = place.run(&format!("push --reproducible -t taken -t third {repository}:v1 project")).code(8);
    assert!(stderr(&failed).contains("the tags third are set, and not taken: "), "{}", stderr(&failed));
}

#[test]
fn where_none_is_set_the_failure_is_that_of_the_registry() {
    let (place, server) = immutable();
    let repository = format!("{}/team/project", server.addr);
    let failed = place.run(&format!("tag {repository}:v1 taken")).failure().stdout_eq("");
    assert_ne!(failed.get_output().status.code(), Some(8), "{}", stderr(&failed));
    drop(server);
    place.run(&format!("--retries 0 tag {repository}:v1 x y")).code(5);
}
