//! The little DER that no crate here writes: tagged lengths, and object identifiers.

/// One element.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short.to_le_bytes()[0]),
        long => {
            let bytes = long.to_be_bytes();
            let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
            out.push(0x80 | (bytes.len() - start).to_le_bytes()[0]);
            out.extend_from_slice(&bytes[start..]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// `SEQUENCE` of elements.
pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// `SET OF` elements, in the order that DER asks for.
pub(super) fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    element(0x31, &parts.concat())
}

/// `OCTET STRING`.
pub(super) fn octets(content: &[u8]) -> Vec<u8> {
    element(0x04, content)
}

/// `INTEGER` of a small number.
pub(super) fn integer(value: u8) -> Vec<u8> {
    element(0x02, &[value & 0x7f])
}

/// `UTF8String`.
pub(super) fn utf8(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

/// `OBJECT IDENTIFIER`.
pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = vec![(arcs[0] * 40 + arcs[1]).to_le_bytes()[0]];
    for arc in &arcs[2..] {
        let mut groups = vec![(arc & 0x7f).to_le_bytes()[0]];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push(0x80 | (rest & 0x7f).to_le_bytes()[0]);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    element(0x06, &content)
}

/// The first element of `der`, whole, and what comes behind it; `None` for what is not DER.
pub(super) fn split(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let bytes = rest.get(..count).filter(|_| count <= 4)?;
        (bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)), &rest[count..])
    };
    let content = rest.get(..length)?;
    let whole = &der[..der.len() - rest.len() + length];
    Some((Element { tag, content, whole }, &rest[length..]))
}

/// An element as it stands in a document.
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn elements_are_as_the_standard_has_them() {
        assert_eq!(oid(&[1, 2, 840, 113_549, 1, 9, 16, 1, 4]), [6, 11, 42, 134, 72, 134, 247, 13, 1, 9, 16, 1, 4]);
        assert_eq!(integer(5), [2, 1, 5]);
        let long = octets(&[7; 300]);
        assert_eq!(long[..4], [4, 0x82, 1, 44]);
        let (found, rest) = split(&long).unwrap();
        assert_eq!((found.tag, found.content.len(), found.whole.len(), rest.len()), (4, 300, 304, 0));
        assert!(split(&[4, 5, 0]).is_none());
    }
}
