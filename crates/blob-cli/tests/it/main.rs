//! The command as a whole: what it writes, byte for byte, and how it exits.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_raw_string_hashes, reason = "this is how snapshots are updated")]

mod absent;
mod alias;
mod attached;
mod away;
mod cache;
mod canary;
mod classes;
mod commit;
mod compare;
mod config;
mod docs;
mod doctor;
mod errors;
mod faces;
mod finer;
mod grep;
mod grep_troubled;
mod guarded;
mod help;
mod hints;
mod json;
mod keyless;
mod lines;
mod login;
#[cfg(all(feature = "fuse", target_os = "linux"))]
mod mount;
#[cfg(all(feature = "fuse", target_os = "linux"))]
mod mount_failing;
mod move_around;
mod names;
#[cfg(feature = "tui")]
mod ncdu;
mod open;
mod open_far;
mod pack;
mod packed;
mod part;
mod person;
mod placed;
mod planned;
mod policy_init;
mod presets;
mod private_ca;
mod reflink;
mod refused;
mod room;
mod scenarios;
mod schema;
mod scripts;
mod serve;
mod shell;
mod signals;
mod slips;
mod some_tags;
mod streams;
mod support;
mod sync;
mod tar;
mod terminal;
mod text;
mod trust;
mod trust_edges;
mod variables;
mod web;
mod zip;
