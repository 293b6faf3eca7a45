//! `blob policy init`: a policy file to begin with, for signers that are named as everywhere else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use blob::policy::file::{LogUse, PolicyFile, PolicyRule, PolicySpec, ReferencePattern};
use clap::Args;
use serde::Serialize;

use crate::error::Failure;
use crate::session::Session;
use crate::trust::{SignerArgs, context, off_thread, refused};

const EXAMPLES: &str = "\
Examples:
  blob policy init --repo acme/app --tags 'v*' release.yaml
  blob policy init --repo acme/app --provenance              to standard output
  blob policy init --key release.pub --insecure-ignore-tlog keys.yaml
  blob policy init --match /acme/ --google-account ann@acme.example people.yaml

What several options ask for must all be so. `blob verify --policy FILE REF` tries the file, and `policies` of the \
configuration takes what is in it.";

/// Write a policy file to begin with.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct InitArgs {
    /// The file, which must not exist; - is standard output, as without it.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Only references that this regular expression is found in.
    #[arg(long = "match", value_name = "REGEX")]
    pattern: Option<String>,

    /// Only say what would be written.
    #[arg(long, requires = "file")]
    dry_run: bool,

    #[command(flatten)]
    signers: SignerArgs,
}

impl InitArgs {
    /// Whether the file itself goes to standard output.
    pub(super) fn writes_content(&self) -> bool {
        self.file.as_deref().is_none_or(|file| file == Path::new("-"))
    }
}

/// A policy file that was written.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Written {
    /// The file.
    file: String,
    /// The policies that it amounts to.
    policies: Vec<String>,
    /// What is in it.
    content: String,
    /// Whether nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

pub(super) async fn run(args: InitArgs, session: &Session) -> Result<(), Failure> {
    let specs = args.signers.specs()?;
    if specs.is_empty() {
        let hint = "add --repo OWNER/NAME, --gitlab-project, --google-account, --key FILE, or --certificate-identity and \
                    its issuer";
        return Err(Failure::usage("a policy asks for signers, and none is named").with_hint(hint));
    }
    let Some(file) = args.file.filter(|file| file != Path::new("-")) else {
        let (content, _) = off_thread(move || content(specs, args.pattern.as_deref(), Path::new(""))).await?;
        return session.print(content).await;
    };
    let dry_run = args.dry_run;
    let written = off_thread(move || {
        if file.symlink_metadata().is_ok() {
            let failure = Failure::usage(format!("{} exists, and a policy is never overwritten", file.display()));
            return Err(failure.with_hint("choose another name, or move the old one away"));
        }
        let dir = file.parent().unwrap_or(Path::new(""));
        let (content, policies) = content(specs, args.pattern.as_deref(), dir)?;
        if dry_run && !dir.as_os_str().is_empty() && !dir.is_dir() {
            return Err(Failure::not_found(format!("there is no directory {}", dir.display())));
        }
        if !dry_run {
            write(&file, &content)?;
        }
        Ok(Written { file: file.display().to_string(), policies, content, dry_run })
    })
    .await?;
    let text = || {
        let verb = if dry_run { "Would write" } else { "Wrote" };
        let mut text = format!("{verb} {}\n", written.file);
        written.policies.iter().for_each(|name| text.extend(["  ", name, "\n"]));
        text
    };
    session.outcome(dry_run, &written, text).await
}

/// The file for `dir`, and the policies that it amounts to: what is written can be read, with all that it names; blocks.
fn content(mut specs: Vec<PolicySpec>, pattern: Option<&str>, dir: &Path) -> Result<(String, Vec<String>), Failure> {
    for spec in &mut specs {
        let keys = spec.signature.iter_mut().flat_map(|signature| &mut signature.keys);
        for key in keys {
            key.path = seen_from(&key.path, dir)?;
        }
    }
    let body = if let (None, [only]) = (pattern, specs.as_slice()) {
        yaml(only)?
    } else {
        let pattern = ReferencePattern::new(pattern.unwrap_or("."))
            .map_err(|problem| Failure::usage(format!("--match cannot be used: {problem}")))?;
        let rule = |policy: &PolicySpec| PolicyRule { pattern: Some(pattern.clone()), policy: policy.clone() };
        let policies: Vec<PolicyRule> = specs.iter().map(rule).collect();
        yaml(&BTreeMap::from([("policies", policies)]))?
    };
    let text = format!("{}\n{body}", remarks(&specs));
    let file = PolicyFile::parse(&text, Path::new("the new policy")).map_err(refused)?;
    let context = context(dir, None);
    let built: Result<Vec<_>, _> = file.rules.iter().map(|rule| rule.build(&context)).collect();
    let policies = built.map_err(refused)?.into_iter().flatten().map(|policy| policy.name()).collect();
    Ok((text, policies))
}

fn yaml<T: Serialize>(content: &T) -> Result<String, Failure> {
    yaml_serde::to_string(content).map_err(|error| Failure::usage(format!("the policy cannot be written: {error}")))
}

/// What stands above the policy, for whoever opens the file.
fn remarks(specs: &[PolicySpec]) -> String {
    let mut text = String::from(
        "# What an archive must meet before it is opened. `blob policy check FILE` reads this file, `--policy FILE` asks\n\
         # for it, and `policies` of the configuration asks for it always.\n",
    );
    let signatures = || specs.iter().filter_map(|spec| spec.signature.as_ref());
    let mut say = |holds: bool, remark: &str| {
        if holds {
            let _ = writeln!(text, "# {remark}");
        }
    };
    say(specs.len() > 1, "Each policy must be met. `match` is found in the references that a policy is for.");
    let names = signatures().any(|signature| !signature.github.is_empty() || !signature.gitlab.is_empty());
    say(
        names || specs.iter().any(|spec| spec.provenance.is_some()),
        "In names `*` is anything but `/`, `**` anything.",
    );
    let keys = || signatures().flat_map(|signature| &signature.keys);
    say(keys().next().is_some(), "Paths are relative to this file.");
    let unlogged = keys().any(|key| key.transparency_log == LogUse::None);
    say(unlogged, "Without a log whoever ever held the key can sign unseen.");
    text
}

/// `path`, which is relative to here, as a file in `dir` has to name it.
fn seen_from(path: &Path, dir: &Path) -> Result<PathBuf, Failure> {
    if dir.as_os_str().is_empty() || path.is_absolute() {
        return Ok(path.to_owned());
    }
    let whole = |path: &Path| {
        let found = std::path::absolute(path);
        found.map_err(|error| Failure::io(format!("finding {}", path.display()), &error))
    };
    let (path, dir) = (whole(path)?, whole(dir)?);
    Ok(path.strip_prefix(&dir).map_or_else(|_| path.clone(), Path::to_owned))
}

/// Writes a file that is not there yet.
fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let opened = std::fs::File::create_new(path);
    let written = opened.and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| Failure::io(format!("writing {}", path.display()), &error))
}
