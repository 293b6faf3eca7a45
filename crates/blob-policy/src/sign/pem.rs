//! Private keys as files: every form in which OpenSSL and cosign write them.

use std::io::Read as _;
use std::path::Path;

use blob_core::plain;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::pem;
use zeroize::Zeroizing;

use super::cosign_key;
use super::error::KeyError;
use super::local::LocalKey;

/// The largest private key file that is read: 64 KiB.
pub const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

/// The most blocks of a file that are looked at.
const MAX_BLOCKS: usize = 16;
const END: &str = "-----END ";

/// Reads the content of a block with this label, with a password.
type Read = fn(&str, &[u8], Option<&[u8]>) -> Result<LocalKey, KeyError>;

/// A PEM block as it stands in the text.
struct Block<'a> {
    label: &'a str,
    text: &'a str,
}

impl LocalKey {
    /// Reads the first private key of a PEM text: PKCS#8 (`PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`), `EC PRIVATE KEY` (also
    /// behind an `EC PARAMETERS` block, as `openssl ecparam -genkey` writes it), `RSA PRIVATE KEY`, and cosign's
    /// `ENCRYPTED SIGSTORE PRIVATE KEY` and `ENCRYPTED COSIGN PRIVATE KEY`.
    ///
    /// Opening an encrypted key takes up to some seconds of processor time and 256 MiB of memory, as the file asks.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(text: &str, password: Option<&[u8]>) -> Result<Self, KeyError> {
        if text.len() as u64 > MAX_KEY_FILE_BYTES {
            return Err(KeyError::TooLarge { limit: MAX_KEY_FILE_BYTES });
        }
        let mut skipped = Vec::new();
        for block in blocks(text).take(MAX_BLOCKS) {
            match Self::from_block(&block, password) {
                Some(read) => return read,
                None => skipped.push(format!("{:?}", block.label)),
            }
        }
        let found = if skipped.is_empty() { "and no PEM block".into() } else { format!("only {}", skipped.join(", ")) };
        Err(KeyError::NotFound { found })
    }

    /// Reads the file at `path` as [`from_pem`](Self::from_pem) does; blocks.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_file(path: &Path, password: Option<&[u8]>) -> Result<Self, KeyError> {
        let read = |source| KeyError::Read { path: path.to_owned(), source };
        let mut text = Zeroizing::new(String::new());
        let file = plain::open(path).map_err(read)?;
        file.take(MAX_KEY_FILE_BYTES + 1).read_to_string(&mut text).map_err(read)?;
        Self::from_pem(&text, password)
    }

    /// `None` for a block that is no private key.
    fn from_block(block: &Block<'_>, password: Option<&[u8]>) -> Option<Result<Self, KeyError>> {
        let read: Read = match block.label {
            "PRIVATE KEY" => |label, der, _| Self::pkcs8(label, der),
            "EC PRIVATE KEY" => |label, der, _| Self::sec1(label, der),
            "RSA PRIVATE KEY" => |label, der, _| Self::pkcs1(label, der),
            "ENCRYPTED PRIVATE KEY" => |label, der, password| encrypted(label, der, password),
            cosign_key::LABEL | cosign_key::OLD_LABEL => |label, json, password| {
                let der = cosign_key::open(label, json, password)?;
                Self::pkcs8(label, &der)
            },
            label if label.ends_with("PRIVATE KEY") => {
                let hint = "convert it with `openssl pkcs8 -topk8`";
                return Some(Err(KeyError::Unsupported { kind: format!("a {label:?} block"), hint }));
            }
            _ => return None,
        };
        if block.text.contains("DEK-Info:") {
            let kind = "a key encrypted in the old way of OpenSSL".into();
            let hint = "its encryption is broken; convert it with `openssl pkcs8 -topk8`";
            return Some(Err(KeyError::Unsupported { kind, hint }));
        }
        let decoded = pem::decode_vec(block.text.as_bytes());
        Some(match decoded {
            Ok((_, der)) => read(block.label, &Zeroizing::new(der), password),
            Err(source) => Err(KeyError::malformed(block.label, source)),
        })
    }

    /// The key as `cosign generate-key-pair` writes it: encrypted with `password`, which may be empty. Takes about
    /// 0.2 seconds of processor time and 64 MiB of memory.
    ///
    /// # Errors
    /// [`KeyError::Failed`].
    pub fn to_encrypted_pem(&self, password: &[u8]) -> Result<Zeroizing<String>, KeyError> {
        let json = cosign_key::seal(&self.to_pkcs8()?, password)?;
        let text = pem::encode_string(cosign_key::LABEL, pem::LineEnding::LF, json.as_bytes());
        text.map(Zeroizing::new)
            .map_err(|source| KeyError::Failed { action: "encoding the private key", source: source.into() })
    }
}

fn encrypted(label: &str, der: &[u8], password: Option<&[u8]>) -> Result<LocalKey, KeyError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|source| KeyError::malformed(label, source))?;
    let password = password.ok_or(KeyError::PasswordRequired)?;
    let opened = info.decrypt(password).map_err(|_| KeyError::WrongPassword)?;
    // A wrong password may by chance give something that can be unpadded, but hardly ever a key.
    LocalKey::pkcs8(label, opened.as_bytes())
}

/// The PEM blocks of a text, with whatever stands between them left out.
fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find("-----BEGIN ")?;
        let from = &rest[start..];
        let label = from["-----BEGIN ".len()..].split_once("-----")?.0;
        let end = from.find(&format!("{END}{label}-----"))?;
        let length = end + END.len() + label.len() + "-----".len();
        rest = &from[length..];
        Some(Block { label, text: &from[..length] })
    })
}
