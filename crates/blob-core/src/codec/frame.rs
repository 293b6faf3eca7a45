//! Zstandard frame headers (RFC 8878, section 3.1): how large a window each frame asks for.
//!
//! Decoding to memory of known size needs no window, so the library would not look at it; the limit must not depend on
//! which way a file is read.

use super::DecodeError;

const MAGIC: u32 = 0xFD2F_B528;

/// Refuses frames whose window is larger than `limit` bytes. Headers that are cut short pass: decoding will refuse
/// them.
pub(super) fn check_windows(mut stored: &[u8], limit: u64) -> Result<(), DecodeError> {
    loop {
        if let Some(window) = window(stored)
            && window > limit
        {
            return Err(DecodeError::Window { got: window, limit });
        }
        match zstd_safe::find_frame_compressed_size(stored) {
            Ok(size) if size > 0 && size < stored.len() => stored = &stored[size..],
            _ => return Ok(()),
        }
    }
}

/// The window of the frame that `stored` begins with; `None` for skippable frames, single segments (whose window is
/// their content) and what is not a frame.
fn window(stored: &[u8]) -> Option<u64> {
    let (magic, rest) = stored.split_first_chunk()?;
    let [descriptor, window, ..] = *rest else { return None };
    let single_segment = descriptor & 0x20 != 0;
    if u32::from_le_bytes(*magic) != MAGIC || single_segment {
        return None;
    }
    let base = 1_u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}
