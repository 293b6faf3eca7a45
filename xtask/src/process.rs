//! Starting programs and saying what went wrong with them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The cargo that started this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `command` with its output shown; anything but success is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{} could not be started: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", shown(command))) }
}

/// Runs `command` and gives back what it wrote to standard output; standard error is shown.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} could not be started: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", shown(command), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Keeps configuration, credentials and proxies of the user's away from `command`; `home` should be empty.
pub(crate) fn isolate(command: &mut Command, home: &Path) {
    let private = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("BLOB_") || name.starts_with("XDG_") || name.to_ascii_lowercase().ends_with("_proxy")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| private(name)) {
        command.env_remove(name);
    }
    command.env("HOME", home).env_remove("DOCKER_CONFIG");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolated_command_sees_another_home() {
        let mut command = Command::new("sh");
        isolate(command.args(["-c", "echo $HOME"]), Path::new("/nowhere"));
        assert_eq!(output(&mut command), Ok("/nowhere\n".to_owned()));
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).expect_err("it fails");
        assert!(error.starts_with("sh -c exit 3 ended with"), "{error}");
        assert!(output(&mut Command::new("no-such-program-anywhere")).is_err());
    }
}
