//! The command line with one sub-command alone: most of the time until a small command is done would be spent on the options
//! of all the others.

use std::ffi::OsString;

use clap::Args as _;

use super::Global;
use crate::cmd;

/// Puts the options of a sub-command into it.
type Augment = fn(clap::Command) -> clap::Command;

/// The sub-commands. One that is missing here is read as part of the whole.
const ALL: &[(&str, Augment)] = &[
    ("push", cmd::push::PushArgs::augment_args),
    ("pull", cmd::pull::PullArgs::augment_args),
    ("pack", cmd::pack::PackArgs::augment_args),
    ("unpack", cmd::pack::UnpackArgs::augment_args),
    ("cat", cmd::cat::CatArgs::augment_args),
    ("ls", cmd::ls::LsArgs::augment_args),
    ("tree", cmd::tree::TreeArgs::augment_args),
    ("cp", cmd::cp::CpArgs::augment_args),
    ("inspect", cmd::inspect::InspectArgs::augment_args),
    #[cfg(all(feature = "fuse", target_os = "linux"))]
    ("mount", cmd::mount::MountArgs::augment_args),
    ("web", cmd::web::WebArgs::augment_args),
    #[cfg(feature = "tui")]
    ("open", cmd::open::OpenArgs::augment_args),
    ("sign", cmd::sign::SignArgs::augment_args),
    ("attest", cmd::sign::AttestArgs::augment_args),
    ("generate-key-pair", cmd::key_pair::KeyPairArgs::augment_args),
    ("verify", cmd::verify::VerifyArgs::augment_args),
    ("verify-bundle", cmd::verify_bundle::VerifyBundleArgs::augment_args),
    ("policy", cmd::policy::PolicyArgs::augment_args),
    ("tag", cmd::tag::TagArgs::augment_args),
    ("tags", cmd::tags::TagsArgs::augment_args),
    ("repos", cmd::repos::ReposArgs::augment_args),
    ("copy", cmd::copy::CopyArgs::augment_args),
    ("save", cmd::copy::saved::SaveArgs::augment_args),
    ("load", cmd::copy::saved::LoadArgs::augment_args),
    ("rm", cmd::rm::RmArgs::augment_args),
    ("attach", cmd::attach::AttachArgs::augment_args),
    ("download", cmd::download::DownloadArgs::augment_args),
    ("referrers", cmd::referrers::ReferrersArgs::augment_args),
    ("diff", cmd::diff::DiffArgs::augment_args),
    ("check", cmd::check::CheckArgs::augment_args),
    ("export", cmd::export::ExportArgs::augment_args),
    ("find", cmd::find::FindArgs::augment_args),
    ("grep", cmd::grep::GrepArgs::augment_args),
    ("du", cmd::du::DuArgs::augment_args),
    ("stat", cmd::stat::StatArgs::augment_args),
    ("cache", cmd::cache::CacheArgs::augment_args),
    ("gc", cmd::gc::GcArgs::augment_args),
    ("login", cmd::login::LoginArgs::augment_args),
    ("logout", cmd::login::LogoutArgs::augment_args),
    ("alias", cmd::alias::AliasArgs::augment_args),
    ("config", cmd::config::ConfigArgs::augment_args),
    ("doctor", cmd::doctor::DoctorArgs::augment_args),
    ("serve", cmd::serve::ServeArgs::augment_args),
    ("completion", cmd::completion::CompletionArgs::augment_args),
    ("man", cmd::man::ManArgs::augment_args),
    ("schema", cmd::schema::SchemaArgs::augment_args),
    ("version", cmd::version::VersionArgs::augment_args),
];

/// The command line as far as `words` need it, if they name a sub-command. Where it can read them, the whole would read the
/// same; where it cannot, it may be that the word is something else, such as the value of an option.
pub(super) fn alone(words: &[OsString]) -> Option<clap::Command> {
    let name = words.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"))?;
    let (name, augment) = ALL.iter().find(|(known, _)| name == known)?;
    let main = Global::augment_args(clap::Command::new("blob").subcommand_required(true));
    let mut command = main.subcommand(augment(clap::Command::new(*name)));
    super::add_variables(&mut command, "BLOB");
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of each option.
    fn options(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().map(|arg| format!("{arg:?}"));
        let below = command.get_subcommands().flat_map(|below| {
            let name = below.get_name().to_owned();
            options(below).into_iter().map(move |option| format!("{name} {option}"))
        });
        own.chain(below).collect()
    }

    #[test]
    fn a_command_alone_has_the_options_that_it_has_among_the_others() {
        let whole = super::super::command();
        assert_eq!(whole.get_subcommands().count(), ALL.len(), "a command is missing in the table");
        for below in whole.get_subcommands() {
            let alone =
                alone(&["blob".into(), below.get_name().into()]).unwrap_or_else(|| panic!("{}", below.get_name()));
            let found = alone.find_subcommand(below.get_name()).unwrap_or_else(|| panic!("{}", below.get_name()));
            assert_eq!(options(found), options(below), "{}", below.get_name());
            let own: Vec<String> = whole.get_arguments().map(|arg| format!("{arg:?}")).collect();
            let own_alone: Vec<String> = alone.get_arguments().map(|arg| format!("{arg:?}")).collect();
            assert_eq!(own_alone, own, "{}", below.get_name());
        }
    }

    #[test]
    fn words_that_name_no_command_need_the_whole() {
        for words in [&["blob"][..], &["blob", "--help"], &["blob", "pusj"], &["blob", "-o", "json", "ls", "x"]] {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            assert!(alone(&words).is_none(), "{words:?}");
        }
    }
}
