//! Private keys as cosign keeps them: PKCS#8 in a NaCl secret box, under a key made from a password by scrypt, in JSON.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::KeyError;

/// The label that is written, and read.
pub(super) const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// The label that older versions wrote.
pub(super) const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// scrypt takes 128 · N · r bytes of memory; files may ask for this much.
const MAX_SCRYPT_BYTES: u64 = 256 << 20;
const MAX_PARALLEL: u32 = 16;
/// What is written: 64 MiB of memory.
const WRITTEN: Scrypt = Scrypt { n: 1 << 16, r: 8, p: 1 };

#[derive(Serialize, Deserialize)]
struct File {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Scrypt,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Scrypt {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The PKCS#8 document in a key file's JSON.
pub(super) fn open(label: &str, json: &[u8], password: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file: File = serde_json::from_slice(json).map_err(|source| KeyError::malformed(label, source))?;
    if file.kdf.name != "scrypt" || file.cipher.name != "nacl/secretbox" {
        let kind = format!("encryption with {:?} and {:?}", file.kdf.name, file.cipher.name);
        return Err(KeyError::Unsupported { kind, hint: "cosign writes scrypt and nacl/secretbox" });
    }
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|source| KeyError::malformed(label, source));
    let (salt, nonce, sealed) = (decode(&file.kdf.salt)?, decode(&file.cipher.nonce)?, decode(&file.ciphertext)?);
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| KeyError::malformed(label, "a nonce has 24 bytes"))?;
    let password = password.ok_or(KeyError::PasswordRequired)?;
    let key = file.kdf.params.derive(password, &salt).map_err(|source| KeyError::malformed(label, source))?;
    let opened = secret_box(&key).decrypt(Nonce::from_slice(&nonce), sealed.as_slice());
    opened.map(Zeroizing::new).map_err(|_| KeyError::WrongPassword)
}

/// The JSON of a key file that holds `pkcs8`.
pub(super) fn seal(pkcs8: &[u8], password: &[u8]) -> Result<String, KeyError> {
    fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KeyError {
        KeyError::Failed { action: "encrypting the private key", source: source.into() }
    }
    let (mut salt, mut nonce) = ([0; 32], [0; 24]);
    rand::fill(&mut salt).and_then(|()| rand::fill(&mut nonce)).map_err(failed)?;
    let key = WRITTEN.derive(password, &salt).map_err(failed)?;
    let sealed = secret_box(&key).encrypt(Nonce::from_slice(&nonce), pkcs8).map_err(|e| failed(e.to_string()))?;
    let file = File {
        kdf: Kdf { name: "scrypt".into(), params: WRITTEN, salt: BASE64_STANDARD.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".into(), nonce: BASE64_STANDARD.encode(nonce) },
        ciphertext: BASE64_STANDARD.encode(sealed),
    };
    serde_json::to_string(&file).map_err(failed)
}

fn secret_box(key: &Zeroizing<[u8; 32]>) -> XSalsa20Poly1305 {
    XSalsa20Poly1305::new(Key::from_slice(&key[..]))
}

impl Scrypt {
    fn derive(self, password: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
        let memory = self.n.checked_mul(u64::from(self.r)).and_then(|blocks| blocks.checked_mul(128));
        let fits = memory.is_some_and(|bytes| bytes <= MAX_SCRYPT_BYTES) && self.p <= MAX_PARALLEL;
        if !fits || !self.n.is_power_of_two() || self.n < 2 {
            return Err(format!("scrypt parameters N={}, r={}, p={} are out of bounds", self.n, self.r, self.p));
        }
        let log_n = u8::try_from(self.n.trailing_zeros()).map_err(|e| e.to_string())?;
        let params = scrypt::Params::new(log_n, self.r, self.p, 32).map_err(|e| e.to_string())?;
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(password, salt, &params, &mut key[..]).map_err(|e| e.to_string())?;
        Ok(key)
    }
}
