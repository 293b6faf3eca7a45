//! Paths inside an archive: relative, `/`-separated, any bytes but NUL.

use std::borrow::{Borrow, Cow};
use std::fmt;

/// A valid path of a file, link or directory in an archive.
///
/// It is a sequence of bytes, since archives may hold names that are not UTF-8; [`Display`](fmt::Display) replaces
/// what is not UTF-8 and escapes control characters.
///
/// ```
/// use blob_core::ArchivePath;
///
/// let path = ArchivePath::new("src/main.rs")?;
/// assert_eq!(path.as_bytes(), b"src/main.rs");
/// assert!(ArchivePath::new("../etc/passwd").is_err());
/// # Ok::<(), blob_core::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchivePath(Box<[u8]>);

impl ArchivePath {
    /// Checks `path` and takes a copy.
    ///
    /// # Errors
    /// [`PathError`] with the rule that `path` breaks.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let path = path.as_ref();
        check(path).map_err(|problem| PathError { path: path.into(), problem })?;
        Ok(Self(path.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl AsRef<[u8]> for ArchivePath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for ArchivePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ArchivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

impl fmt::Debug for ArchivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Shows a path to a person: what is not UTF-8 becomes U+FFFD; control characters, and the invisible ones that change
/// the direction of text, are escaped.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(self.0).chars() {
            match character {
                '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                    write!(f, "{}", character.escape_unicode())?;
                }
                control if control.is_control() => write!(f, "{}", control.escape_default())?,
                plain => write!(f, "{plain}")?,
            }
        }
        Ok(())
    }
}

/// The same, cut where somebody made it longer than a person reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 512;
        match self.0.get(..MOST) {
            Some(start) if self.0.len() > MOST => write!(f, "{}… ({} bytes)", Shown(start), self.0.len()),
            _ => Shown(self.0).fmt(f),
        }
    }
}

/// A path that an archive may not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid path \"{}\": {problem}", Brief(path))]
pub struct PathError {
    /// The path.
    pub path: Box<[u8]>,
    /// The rule it breaks.
    pub problem: PathProblem,
}

/// The rule that a path breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// No path at all.
    #[error("it is empty")]
    Empty,
    /// It begins or ends with `/`, or has two in a row.
    #[error("it has an empty element")]
    EmptyElement,
    /// An element is `.`.
    #[error("it has a \".\" element")]
    Dot,
    /// An element is `..`, by either slash.
    #[error("it has a \"..\" element")]
    DotDot,
    /// A NUL byte.
    #[error("it holds a NUL byte")]
    Nul,
    /// A drive prefix such as `C:\` or `C:/`.
    #[error("it begins with a drive letter")]
    Drive,
    /// A leading `\\`, as of network shares.
    #[error("it begins with a network share")]
    Share,
    /// Not UTF-8, which readers take and writers refuse.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Windows alone: a backslash or colon.
    #[error("it holds a character that is not allowed in names on this system")]
    Platform,
}

/// Checks `path` against every rule; what passes can be joined to a directory without leaving it.
///
/// # Errors
/// The first rule that `path` breaks.
pub fn check(path: &[u8]) -> Result<(), PathProblem> {
    if is_plain(path) { Ok(()) } else { check_slowly(path) }
}

fn check_slowly(path: &[u8]) -> Result<(), PathProblem> {
    if path.is_empty() {
        return Err(PathProblem::Empty);
    }
    if path.starts_with(br"\\") {
        return Err(PathProblem::Share);
    }
    if let [letter, b':', b'/' | b'\\', ..] = path
        && letter.is_ascii_alphabetic()
    {
        return Err(PathProblem::Drive);
    }
    // One pass over the bytes: elements end at either slash, but only `/` makes an empty one an error.
    let (mut start, mut backslash) = (0, false);
    for end in 0..=path.len() {
        match path.get(end) {
            Some(0) => return Err(PathProblem::Nul),
            Some(b'\\') => backslash = true,
            Some(b'/') | None => match &path[start..end] {
                b"" => return Err(PathProblem::EmptyElement),
                b"." => return Err(PathProblem::Dot),
                b".." => return Err(PathProblem::DotDot),
                _ => start = end + 1,
            },
            Some(_) => {}
        }
    }
    if backslash && path.split(|byte| matches!(byte, b'/' | b'\\')).any(|element| element == b"..") {
        return Err(PathProblem::DotDot);
    }
    if cfg!(windows) && path.iter().any(|byte| matches!(byte, b'\\' | b':')) {
        return Err(PathProblem::Platform);
    }
    Ok(())
}

/// Whether nothing in `path` could break a rule: no backslash, no NUL, and no slash beside another, before a dot or at an
/// end. Most paths are like that, and these loops have no branches, so that many bytes are looked at in one step.
fn is_plain(path: &[u8]) -> bool {
    let ([first, rest @ ..], [.., last]) = (path, path) else { return false };
    if cfg!(windows) || matches!(first, b'/' | b'.') || *last == b'/' || path.get(1) == Some(&b':') {
        return false;
    }
    // Bytes rather than booleans: those would become branches.
    let mut odd = 0;
    for &byte in path {
        odd |= u8::from(byte == 0) | u8::from(byte == b'\\');
    }
    for (&byte, &next) in path.iter().zip(rest) {
        odd |= u8::from(byte == b'/') & (u8::from(next == b'/') | u8::from(next == b'.'));
    }
    odd == 0
}

/// What a person typed, as an archive path: leading, trailing and doubled slashes are dropped; an empty result and `.`
/// mean the root and come back empty. `.` and `..` elements stay, and match nothing.
pub fn normalize(typed: &[u8]) -> Cow<'_, [u8]> {
    if typed == b"." || typed == b"./" {
        return Cow::Borrowed(b"");
    }
    let typed = typed.strip_prefix(b"./").unwrap_or(typed);
    let clean = !typed.starts_with(b"/") && !typed.ends_with(b"/") && !typed.windows(2).any(|pair| pair == b"//");
    if clean {
        return Cow::Borrowed(typed);
    }
    let elements: Vec<&[u8]> = typed.split(|&byte| byte == b'/').filter(|element| !element.is_empty()).collect();
    Cow::Owned(elements.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_format_is_checked() {
        let cases: &[(&[u8], Result<(), PathProblem>)] = &[
            (b"a", Ok(())),
            (b"a/b.txt", Ok(())),
            (b"a b:c\\d", Ok(())),
            (b"...", Ok(())),
            (b"\xff\xfe", Ok(())),
            (b"C:", Ok(())),
            (b"", Err(PathProblem::Empty)),
            (b"/", Err(PathProblem::EmptyElement)),
            (b"/etc", Err(PathProblem::EmptyElement)),
            (b"a/", Err(PathProblem::EmptyElement)),
            (b"a//b", Err(PathProblem::EmptyElement)),
            (b".", Err(PathProblem::Dot)),
            (b"a/./b", Err(PathProblem::Dot)),
            (b"..", Err(PathProblem::DotDot)),
            (b"a/../b", Err(PathProblem::DotDot)),
            (b"a\\..\\b", Err(PathProblem::DotDot)),
            (b"..\\x", Err(PathProblem::DotDot)),
            (b"a\0b", Err(PathProblem::Nul)),
            (b"C:\\x", Err(PathProblem::Drive)),
            (b"c:/x", Err(PathProblem::Drive)),
            (b"C:../../x", Err(PathProblem::DotDot)),
            (b"\\\\?\\C:\\x", Err(PathProblem::Share)),
            (b"//host/s", Err(PathProblem::EmptyElement)),
        ];
        for (path, expected) in cases {
            assert_eq!(check(path), *expected, "{}", Shown(path));
        }
    }

    proptest::proptest! {
        /// Out of the characters that rules are about, so that most paths break one.
        #[test]
        fn the_quick_look_lets_nothing_pass(path in "[aC/.:\\\\\\x00é]{0,12}") {
            let path = path.as_bytes();
            if is_plain(path) {
                proptest::prop_assert_eq!(check_slowly(path), Ok(()));
            }
        }
    }

    #[test]
    fn what_people_type_is_normalised() {
        for (typed, expected) in [
            ("/etc/nginx/", "etc/nginx"),
            ("", ""),
            ("/", ""),
            ("///", ""),
            (".", ""),
            ("./a", "a"),
            ("//a//b//", "a/b"),
            ("a/../b", "a/../b"),
        ] {
            assert_eq!(normalize(typed.as_bytes()), expected.as_bytes(), "{typed:?}");
        }
    }

    #[test]
    fn terminal_escapes_are_not_shown_raw() {
        let shown = Shown(b"a\x1b[31m\n\xe2\x80\xae\xff").to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\n\\u{202e}\u{fffd}");
    }
}
