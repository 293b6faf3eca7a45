//! What `blob push` says of a push.

use blob::core::create::CreateReport;
use blob::registry::{PushedBlob, Tag};
use blob::{Location, Pushed};
use serde::Serialize;

use super::PushArgs;
use crate::ui::size::{count, human};

/// What was pushed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Report<'a> {
    /// The place, as it was typed or as its alias resolved.
    r#ref: String,
    /// `success`, or `dry_run`.
    status: &'static str,
    /// Whether this only says what would be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// The digest of the manifest.
    digest: String,
    /// The place with the digest, which never means anything else.
    digest_ref: String,
    /// Further tags.
    tags: Vec<&'a str>,
    /// Whether the tag pointed at the same archive already.
    unchanged: bool,
    /// Bytes that were sent.
    uploaded_bytes: u64,
    /// The blob that lists the files.
    index: Part,
    /// The blob that holds them.
    data: Part,
    /// True if it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<bool>,
    /// The manifest that carries the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_digest: Option<String>,
    /// Who would sign it, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signer: Option<String>,
    #[serde(flatten)]
    contents: Option<Contents>,
}

/// A blob.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Part {
    /// Its digest.
    digest: String,
    /// Bytes.
    size: u64,
    /// `uploaded`, `mounted` or `existing`.
    outcome: &'static str,
}

/// What is in the archive.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cmd) struct Contents {
    /// Files.
    file_count: u64,
    /// Symbolic links.
    symlink_count: u64,
    /// Symbolic links whose targets were stored in their place; with `--symlinks follow` and `follow-outside`.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed_symlink_count: Option<u64>,
    /// Empty directories.
    empty_dir_count: u64,
    /// Bytes of the files, uncompressed.
    total_size: u64,
    /// Bytes as they are stored.
    stored_size: u64,
    /// Files whose content another file has too.
    deduplicated_files: u64,
    /// Bytes that were not stored again.
    deduplicated_size: u64,
    /// What was left out.
    left_out: LeftOut,
}

/// How much was left out.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LeftOut {
    /// Sockets, devices and pipes.
    special_files: u64,
    /// Names that an archive cannot hold.
    names: u64,
    /// Symbolic links.
    symlinks: u64,
    /// Empty directories.
    empty_dirs: u64,
    /// What `--include`, `--exclude` and `.blobignore` files left out; a directory with all that is in it is one.
    filtered: u64,
    /// The first of the special files and names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<crate::ui::escape::PathText>,
}

/// What programs are told.
pub(super) fn report<'a>(
    (location, digest_ref): (&Location, String),
    pushed: &Pushed,
    args: &'a PushArgs,
    filtered: u64,
) -> Report<'a> {
    let part = |descriptor: &blob::registry::Descriptor, outcome| Part {
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
        outcome: match outcome {
            PushedBlob::Uploaded => "uploaded",
            PushedBlob::Mounted => "mounted",
            _ => "existing",
        },
    };
    Report {
        r#ref: location.to_string(),
        status: if args.dry_run { "dry_run" } else { "success" },
        dry_run: args.dry_run,
        digest: pushed.digest().to_string(),
        digest_ref,
        tags: args.tag.iter().map(Tag::as_str).collect(),
        unchanged: pushed.unchanged,
        uploaded_bytes: pushed.uploaded_bytes(),
        index: part(pushed.manifest.index(), pushed.index),
        data: part(pushed.manifest.data(), pushed.data),
        signed: pushed.signed.is_some().then_some(true),
        signature_digest: signature(pushed),
        signer: None,
        contents: pushed.report.as_ref().map(|report| contents(report, args.create.follows(), filtered)),
    }
}

/// The manifest that carries the signature.
fn signature(pushed: &Pushed) -> Option<String> {
    pushed.signed.as_ref()?.referrer.map(|digest| digest.to_string())
}

pub(in crate::cmd) fn contents(report: &CreateReport, follows: bool, filtered: u64) -> Contents {
    let examples = report.special.first.iter().chain(&report.skipped_names.first);
    Contents {
        file_count: report.files,
        symlink_count: report.symlinks,
        followed_symlink_count: follows.then_some(report.followed_symlinks),
        empty_dir_count: report.empty_dirs,
        total_size: report.original_bytes,
        stored_size: report.stored_bytes,
        deduplicated_files: report.deduplicated + report.hard_linked,
        deduplicated_size: report.deduplicated_bytes,
        left_out: LeftOut {
            special_files: report.special.count,
            names: report.skipped_names.count,
            symlinks: report.skipped_symlinks,
            empty_dirs: report.skipped_empty_dirs,
            filtered,
            examples: examples.map(|path| crate::ui::escape::PathText::new(path)).collect(),
        },
    }
}

/// What people are told.
pub(super) fn text(location: &Location, pushed: &Pushed, args: &PushArgs, filtered: u64) -> String {
    let unchanged = if pushed.unchanged { " (unchanged)" } else { "" };
    let (verb, uploaded) = if args.dry_run { ("Would push", "Would upload") } else { ("Pushed", "Uploaded") };
    let mut text = format!("{verb} {location}{unchanged}\n");
    let mut line = |label: &str, value: &str| text.extend(["  ", label, ": ", value, "\n"]);
    for tag in &args.tag {
        line("Tagged", tag.as_str());
    }
    line("Digest", &pushed.digest().to_string());
    text += &pushed.report.as_ref().map_or_else(String::new, |report| contents_text(report, filtered));
    let mut line = |label: &str, value: &str| text.extend(["  ", label, ": ", value, "\n"]);
    line(uploaded, &human(pushed.uploaded_bytes()));
    if let Some(signature) = signature(pushed) {
        line("Signed", &signature);
    }
    text
}

/// What people are told of what is in an archive, and what is not.
pub(in crate::cmd) fn contents_text(report: &CreateReport, filtered: u64) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| text.extend(["  ", label, ": ", value, "\n"]);
    line("Files", &kinds(report));
    if report.followed_symlinks > 0 {
        line("Followed", &count(report.followed_symlinks, "symbolic link"));
    }
    line("Size", &format!("{} ({} uncompressed)", human(report.stored_bytes), human(report.original_bytes)));
    for (what, left_out) in [("special file", &report.special), ("name", &report.skipped_names)] {
        if !left_out.is_empty() {
            line("Left out", &format!("{}: {left_out}", count(left_out.count, what)));
        }
    }
    for (number, what) in [(report.skipped_symlinks, "symbolic link"), (report.skipped_empty_dirs, "empty director")] {
        if number > 0 {
            line("Left out", &plural(number, what));
        }
    }
    if filtered > 0 {
        line("Left out", &format!("{} by patterns and rules", count(filtered, "path")));
    }
    if report.deduplicated + report.hard_linked > 0 {
        let twins = count(report.deduplicated + report.hard_linked, "file");
        line("Stored once", &format!("{twins} equal to others ({})", human(report.deduplicated_bytes)));
    }
    text
}

/// `12 (2 symbolic links, 1 empty directory)`.
fn kinds(report: &CreateReport) -> String {
    let others: Vec<String> = [(report.symlinks, "symbolic link"), (report.empty_dirs, "empty director")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| plural(number, what))
        .collect();
    if others.is_empty() { report.files.to_string() } else { format!("{} and {}", report.files, others.join(", ")) }
}

fn plural(number: u64, what: &str) -> String {
    match what.strip_suffix("director") {
        Some(before) => format!("{number} {before}director{}", if number == 1 { "y" } else { "ies" }),
        None => count(number, what),
    }
}

#[cfg(test)]
pub(crate) fn schemas() -> Vec<crate::schemas::Made> {
    use crate::schemas::document;
    vec![document::<Report<'_>>("push")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_an_archive_is_counted_in_words() {
        let mut report = CreateReport::default();
        report.files = 12;
        assert_eq!(kinds(&report), "12");
        (report.symlinks, report.empty_dirs) = (1, 2);
        assert_eq!(kinds(&report), "12 and 1 symbolic link, 2 empty directories");
    }
}
