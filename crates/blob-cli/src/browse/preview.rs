//! What a file looks like: its lines, made safe for a terminal, or a dump of its bytes.

use blob::core::path::Shown;
use ratatui::text::Line;

/// The largest file that is fetched because the cursor rests on it.
pub(super) const AUTOMATIC: u64 = 512 << 10;

/// The largest file that is fetched for a preview at all.
pub(super) const LARGEST: u64 = 8 << 20;

/// The most lines that are shown, and the most characters of one.
const LINES: usize = 20_000;
const CHARACTERS: usize = 1_000;

/// The most bytes of a binary file that are shown.
const DUMPED: usize = 64 << 10;

/// The right side of the screen.
#[derive(Clone, Debug)]
pub(super) enum Preview {
    /// Lines that say what it is, without content.
    About(Vec<String>),
    Loading,
    /// Nothing was fetched yet: it is this large.
    Large(u64),
    Content(Content),
    Failed(String),
}

/// Lines to show.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// What they are: "text", "binary, 12.3K".
    pub(super) title: String,
    pub(super) lines: Vec<Line<'static>>,
    /// The same as text, to be highlighted; `None` for a dump.
    pub(super) text: Option<Vec<String>>,
}

impl Content {
    /// Shows `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if is_binary(bytes) {
            return Self { title: "binary".into(), lines: dump(bytes), text: None };
        }
        let all = String::from_utf8_lossy(bytes);
        let mut lines: Vec<String> = all.lines().take(LINES).map(safe).collect();
        let cut = all.lines().nth(LINES).is_some();
        if cut {
            lines.push(format!("… the first {LINES} lines"));
        }
        let shown = lines.iter().map(|line| Line::raw(line.clone())).collect();
        Self { title: "text".into(), lines: shown, text: Some(lines) }
    }
}

/// Bytes that no text holds in its first 8 KiB: a NUL, what is not UTF-8, many control characters.
fn is_binary(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(8 << 10)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character that the cut went through is none the worse for it.
        Err(error) if error.error_len().is_none() && bytes.len() > head.len() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return true,
    };
    let controls = text.chars().filter(|c| c.is_control() && !"\t\r\n\u{c}\u{1b}".contains(*c)).count();
    text.contains('\0') || controls * 10 > text.len()
}

/// A line that controls no terminal, with its tabs expanded.
fn safe(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for (at, character) in line.chars().enumerate() {
        if at == CHARACTERS {
            text.push('…');
            break;
        }
        if character == '\t' {
            let column = text.chars().count();
            text.extend(std::iter::repeat_n(' ', 4 - column % 4));
        } else {
            let mut buffer = [0; 4];
            text.push_str(&Shown(character.encode_utf8(&mut buffer).as_bytes()).to_string());
        }
    }
    text
}

/// Offset, 16 bytes in hexadecimal, and what of them can be printed.
fn dump(bytes: &[u8]) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = bytes[..bytes.len().min(DUMPED)]
        .chunks(16)
        .enumerate()
        .map(|(row, chunk)| {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let printable = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
            let text: String = chunk.iter().map(printable).collect();
            Line::raw(format!("{:08x}  {:<47}  {text}", row * 16, hex.join(" ")))
        })
        .collect();
    if bytes.len() > DUMPED {
        lines.push(Line::raw(format!("… the first {DUMPED} bytes of {}", bytes.len())));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        Content::of(bytes).lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn text_controls_no_terminal() {
        assert_eq!(lines(b"a\tb\r\nc"), ["a   b", "c"]);
        assert_eq!(lines("x\x1b[31my\u{202e}z".as_bytes()), ["x\\u{1b}[31my\\u{202e}z"]);
        assert_eq!(lines(b""), Vec::<String>::new());
        let long = lines(&b"y".repeat(5_000));
        assert_eq!((long.len(), long[0].chars().count()), (1, CHARACTERS + 1));
        assert_eq!(lines(&b"\n".repeat(LINES + 5)).len(), LINES + 1);
    }

    #[test]
    fn bytes_are_dumped() {
        assert_eq!(
            lines(b"\x7fELF\0\x01 0123456789abc"),
            [
                "00000000  7f 45 4c 46 00 01 20 30 31 32 33 34 35 36 37 38  .ELF.. 012345678",
                "00000010  39 61 62 63                                      9abc",
            ]
        );
        assert!(is_binary(&[0xff, 0xfe, 0x41]));
        assert!(is_binary(b"\x01\x02\x03text"));
        // A character across the end of what is looked at does not make a text binary.
        let text = format!("{}ä and more", "x".repeat((8 << 10) - 1));
        assert!(!is_binary(text.as_bytes()));
    }
}
