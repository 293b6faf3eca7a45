//! Which files are not worth compressing.

use std::fmt;
use std::sync::Arc;

/// Files smaller than this are stored as they are by default: 1,024 bytes.
pub const DEFAULT_MIN_SIZE: u64 = 1024;

/// Extensions of formats that are compressed already, lower-case, sorted.
pub const COMPRESSED_EXTENSIONS: [&str; 31] = [
    "7z", "aac", "avif", "br", "bz2", "flac", "gif", "gz", "heic", "ico", "jpeg", "jpg", "m4v", "mkv", "mov", "mp3",
    "mp4", "ogg", "opus", "pdf", "png", "rar", "tgz", "wav", "webm", "webp", "woff", "woff2", "xz", "zip", "zst",
];

/// Decides, from a file's path in the archive and its size in bytes, whether to store it without trying to compress
/// it. The default skips files smaller than 1,024 bytes and those whose extension names a compressed format.
///
/// ```
/// use blob_core::create::SkipCompression;
///
/// let skip = SkipCompression::default();
/// assert!(skip.skips(b"photo.JPG", 1 << 20));
/// assert!(!skip.skips(b"main.rs", 1 << 20));
/// let no_binaries = SkipCompression::new(|path, _| path.ends_with(b".bin"));
/// assert!(no_binaries.skips(b"model.bin", 1 << 20));
/// ```
#[derive(Clone)]
pub struct SkipCompression(Rule);

#[derive(Clone)]
enum Rule {
    Nothing,
    Known { min_size: u64 },
    Custom(Arc<Predicate>),
}

type Predicate = dyn Fn(&[u8], u64) -> bool + Send + Sync;

impl SkipCompression {
    /// Tries to compress every file; those that do not get smaller are stored as they are all the same.
    pub fn none() -> Self {
        Self(Rule::Nothing)
    }

    /// Skips files smaller than `min_size` bytes and those with one of [`COMPRESSED_EXTENSIONS`].
    pub fn known(min_size: u64) -> Self {
        Self(Rule::Known { min_size })
    }

    /// Skips the files for which `predicate` is true. It may be called from several threads at once, in any order;
    /// for the same file it must always say the same, or archives are not reproducible.
    pub fn new(predicate: impl Fn(&[u8], u64) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(predicate)))
    }

    /// Whether the file at `path` with `size` bytes is stored without trying to compress it.
    pub fn skips(&self, path: &[u8], size: u64) -> bool {
        match &self.0 {
            Rule::Nothing => false,
            Rule::Known { min_size } => size < *min_size || has_compressed_extension(path),
            Rule::Custom(predicate) => predicate(path, size),
        }
    }
}

impl Default for SkipCompression {
    fn default() -> Self {
        Self::known(DEFAULT_MIN_SIZE)
    }
}

impl fmt::Debug for SkipCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Nothing => f.write_str("SkipCompression::none()"),
            Rule::Known { min_size } => write!(f, "SkipCompression::known({min_size})"),
            Rule::Custom(_) => f.write_str("SkipCompression::new(..)"),
        }
    }
}

fn has_compressed_extension(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return false };
    let extension = &name[dot + 1..];
    // The longest has five letters: do not copy what cannot match.
    if extension.len() > 5 {
        return false;
    }
    let lower = extension.to_ascii_lowercase();
    COMPRESSED_EXTENSIONS.binary_search_by(|known| known.as_bytes().cmp(&lower)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_extension_is_known_in_any_case() {
        assert!(COMPRESSED_EXTENSIONS.is_sorted());
        let skip = SkipCompression::default();
        for extension in COMPRESSED_EXTENSIONS {
            for name in [format!("d.x/a.b.{extension}"), format!("A.{}", extension.to_uppercase())] {
                assert!(skip.skips(name.as_bytes(), 1 << 30), "{name}");
            }
        }
    }

    #[test]
    fn other_files_are_compressed_from_1024_bytes() {
        let skip = SkipCompression::default();
        for name in ["a", "a.", "a.txt", "gz", "d.gz/a", "a.gzip", "a.gz.txt", "a.g\u{fc}z"] {
            assert!(!skip.skips(name.as_bytes(), 1024), "{name}");
            assert!(skip.skips(name.as_bytes(), 1023), "{name}");
            assert!(!SkipCompression::none().skips(name.as_bytes(), 0), "{name}");
        }
    }
}
