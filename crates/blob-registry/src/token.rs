//! Names that cannot be guessed: upload sessions, temporary files, bearer tokens.

use crate::error::RegistryError;

/// 128 random bits as 32 lower-case hexadecimal digits.
pub(crate) fn random() -> Result<String, RegistryError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|source| RegistryError::Io {
        action: "asking the operating system for random bytes".into(),
        transient: false,
        source: Box::new(source),
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Whether `text` could come from [`random`]: what is not is never looked up, let alone made part of a path.
#[cfg(feature = "layout")]
pub(crate) fn is_wellformed(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let (a, b) = (random().expect("random"), random().expect("random"));
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
    }
}
