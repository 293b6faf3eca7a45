//! What servers answer that have one resource.

use blob_testkit::hostile::{Reply, Seen};
use bytes::Bytes;

/// What an honest server answers for `content`.
pub(crate) fn honest(content: &Bytes, seen: &Seen) -> Reply {
    let reply = Reply::content(seen, content);
    let length = reply.length();
    let reply = if reply.status == 416 { reply } else { reply.set("content-length", length) };
    reply.set("etag", "\"v1\"")
}

/// What a server without ranges answers.
pub(crate) fn whole(content: &Bytes) -> Reply {
    Reply::new(200).header("content-length", content.len()).header("etag", "\"v1\"").body(content.clone())
}
