//! Names as they are shown: nothing in an archive can control the terminal.

use blob::core::path::Shown;
use serde::Serialize;

/// A name for people: control characters are escaped, what is not UTF-8 becomes U+FFFD.
pub(crate) fn shown(name: &[u8]) -> String {
    Shown(name).to_string()
}

/// A name for programs that read lines: as [`shown`], with backslashes doubled, so that what is escaped can be told from
/// what is called so.
pub(crate) fn exact(name: &[u8]) -> String {
    String::from_utf8_lossy(name).split('\\').map(|part| shown(part.as_bytes())).collect::<Vec<_>>().join("\\\\")
}

/// A path for programs: as text, and where it is not UTF-8 as Base64 too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PathText {
    /// The path; what is not UTF-8 is U+FFFD.
    pub(crate) path: String,
    /// Its bytes in Base64, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_base64: Option<String>,
}

impl PathText {
    pub(crate) fn new(path: &[u8]) -> Self {
        let path_base64 = std::str::from_utf8(path).is_err().then(|| base64(path));
        Self { path: String::from_utf8_lossy(path).into_owned(), path_base64 }
    }
}

/// RFC 4648 Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let sextet = (group >> (18 - 6 * position) & 63) as usize;
            text.push(if position <= chunk.len() { ALPHABET[sextet] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn what_is_escaped_can_be_told_from_names() {
        assert_eq!((exact(b"a\nb"), exact(b"a\\nb")), ("a\\nb".into(), "a\\\\nb".into()));
    }

    #[test]
    fn only_names_that_are_not_text_carry_their_bytes() {
        assert_eq!(PathText::new("ä\n".as_bytes()), PathText { path: "ä\n".into(), path_base64: None });
        let odd = PathText::new(b"a\xff");
        assert_eq!((odd.path.as_str(), odd.path_base64.as_deref()), ("a\u{fffd}", Some("Yf8=")));
    }
}
