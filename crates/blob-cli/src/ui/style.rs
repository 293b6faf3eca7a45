//! Colour, where it is wanted.

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colored: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The name of a directory.
    pub(crate) fn directory(self, name: &str) -> String {
        self.paint("1;34", name)
    }

    /// The name of a symbolic link.
    pub(crate) fn link(self, name: &str) -> String {
        self.paint("36", name)
    }

    /// The path of a file that something was found in.
    pub(crate) fn path(self, name: &str) -> String {
        self.paint("35", name)
    }

    /// The number of a line.
    pub(crate) fn number(self, number: &str) -> String {
        self.paint("32", number)
    }

    /// What stands around what was looked for.
    pub(crate) fn around_match(self) -> (&'static str, &'static str) {
        if self.colored { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") }
    }

    /// The name of a file that can be run.
    pub(crate) fn executable(self, name: &str) -> String {
        self.paint("32", name)
    }
}

/// Whether colour is wanted: `choice` if somebody chose, else by the environment, else if a terminal looks.
/// `NO_COLOR` and `CLICOLOR_FORCE` count when they are not empty.
pub(crate) fn wanted(choice: Option<bool>, variable: impl Fn(&str) -> Option<String>, terminal: bool) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    match choice {
        Some(choice) => choice,
        None if set("NO_COLOR") => false,
        None if variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") => true,
        None => terminal && variable("TERM").as_deref() != Some("dumb"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_where_nobody_chose() {
        let with =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        for (choice, name, value, terminal, expected) in [
            (None, "X", "", true, true),
            (None, "X", "", false, false),
            (None, "NO_COLOR", "1", true, false),
            (None, "NO_COLOR", "", true, true),
            (None, "CLICOLOR_FORCE", "1", false, true),
            (None, "CLICOLOR_FORCE", "0", false, false),
            (None, "TERM", "dumb", true, false),
            (Some(true), "NO_COLOR", "1", false, true),
            (Some(false), "CLICOLOR_FORCE", "1", true, false),
        ] {
            assert_eq!(wanted(choice, with(name, value), terminal), expected, "{choice:?} {name}={value}");
        }
    }

    #[test]
    fn without_colour_text_stays_as_it_is() {
        assert_eq!(Style { colored: false }.directory("d"), "d");
        assert_eq!(Style { colored: true }.directory("d"), "\x1b[1;34md\x1b[0m");
    }
}
