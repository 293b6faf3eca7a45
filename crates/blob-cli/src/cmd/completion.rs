//! `blob completion`.

use clap::Args;

use crate::complete;
use crate::error::Failure;
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  source <(blob completion bash)                               bash, in ~/.bashrc
  source <(blob completion zsh)                                zsh, in ~/.zshrc
  blob completion fish > ~/.config/fish/completions/blob.fish
  blob completion powershell | Out-String | Invoke-Expression  PowerShell, in $PROFILE
  eval (blob completion elvish | slurp)                        elvish, in rc.elv

The scripts ask the program itself, so that aliases and keys of the configuration are known.";

/// Print what a shell needs to complete commands, options and aliases.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, powershell or elvish.
    #[arg(value_name = "SHELL")]
    shell: String,
}

pub(crate) async fn run(args: CompletionArgs, session: &Session) -> Result<(), Failure> {
    // Who runs this as `blob` wants whatever is `blob` then; others have the file that they ran.
    let program = std::env::args().next().unwrap_or_else(|| "blob".into());
    let program = if program.contains('/') {
        std::env::current_exe().map_or(program, |path| path.display().to_string())
    } else {
        program
    };
    let script = complete::registration(&args.shell, &program);
    let script = script.map_err(|known| {
        Failure::usage(format!("unknown shell {:?}", args.shell)).with_hint(format!("known are {known}"))
    })?;
    session.print(script).await
}
