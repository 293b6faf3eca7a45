//! The distribution specification, one test for each thing that it says a registry must do, named by the endpoint
//! (`end-1` to `end-14` in its table of endpoints).
//!
//! Each runs over every combination of a store (memory, layout), a way to authenticate (none, Basic, Bearer) and a
//! digest algorithm that is listed in [`site`]. With `BLOB_SPEC_URL` set, they run against that registry instead:
//! `cargo xtask conformance URL`.

mod auth;
mod blobs;
mod content;
mod errors;
mod lists;
mod manifests;
mod referrers;
mod site;
mod uploads;
