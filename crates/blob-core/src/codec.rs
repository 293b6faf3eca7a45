//! Stored bytes to content and back: Zstandard (RFC 8878), sizes and digests.
//!
//! Content leaves a decoder only when its size and SHA-256 are right: [`Decoder::decode`] checks before it returns,
//! [`StreamDecoder`] hands bytes out as they come and tells in [`StreamDecoder::finish`] whether they were right.

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective};

use crate::digest::{Digest, Hasher};
use crate::entry::{Compression, Entry};

mod frame;

/// Content up to this size is decoded and verified in memory, as a whole: 8 MiB.
pub const SMALL: u64 = 8 << 20;

/// How much a streaming step decodes: 256 KiB.
const STEP: usize = 256 << 10;

/// How much one thread of an encoder with several takes at a time: 2 MiB.
const JOB: u32 = 2 << 20;

/// The default Zstandard level.
pub const DEFAULT_LEVEL: i32 = 3;

/// What decoding may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// The largest Zstandard window, as a power of two: 27 (128 MiB) by default, 31 at most. It bounds the memory of
    /// streaming decoders.
    pub window_log: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { window_log: 27 }
    }
}

/// What a file's stored bytes must become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// How the bytes are stored.
    pub compression: Compression,
    /// How many bytes are stored.
    pub data_size: u64,
    /// How many bytes the content has.
    pub original_size: u64,
    /// The digest of the content.
    pub digest: Digest,
}

impl From<&Entry<'_>> for Expected {
    fn from(entry: &Entry<'_>) -> Self {
        Self {
            compression: entry.compression(),
            data_size: entry.data_size(),
            original_size: entry.original_size(),
            digest: entry.digest(),
        }
    }
}

/// Stored bytes that do not become the content they should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The content is other content.
    #[error("content does not match its hash: expected {expected}, got {got}")]
    HashMismatch {
        /// What the index says.
        expected: Digest,
        /// What came out.
        got: Digest,
    },
    /// The content has another size.
    #[error("content has {} {got} bytes, expected {expected}", if *more { "more than" } else { "only" })]
    SizeMismatch {
        /// What the index says.
        expected: u64,
        /// What came out before decoding stopped.
        got: u64,
        /// Whether there was more.
        more: bool,
    },
    /// The compressed form is damaged.
    #[error("damaged zstd data: {0}")]
    Zstd(&'static str),
    /// The compressed form needs more memory than is allowed.
    #[error("zstd data needs a window of {got} bytes, over the limit of {limit}; raise the limit to read it")]
    Window {
        /// What the frame asks for.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The operating system has no memory for a decoder.
    #[error("no memory for a zstd context")]
    Memory,
}

impl DecodeError {
    /// Whether the content came out whole, but with another hash.
    pub fn is_hash_mismatch(&self) -> bool {
        matches!(self, Self::HashMismatch { .. })
    }

    /// Whether other stored bytes could be better ones: not when the machine has no memory, or a limit is too low.
    pub(crate) fn is_about_bytes(&self) -> bool {
        !matches!(self, Self::Memory | Self::Window { .. })
    }
}

/// `ZSTD_error_dstSize_tooSmall` and `ZSTD_error_frameParameter_windowTooLarge`: the bindings give the negation of
/// the numbers in `zstd_errors.h`, which are stable.
const TARGET_TOO_SMALL: usize = 70_usize.wrapping_neg();
const WINDOW_TOO_LARGE: usize = 16_usize.wrapping_neg();

fn zstd_error(code: usize) -> DecodeError {
    DecodeError::Zstd(zstd_safe::get_error_name(code))
}

/// Decodes small contents in memory; keeps its context, so make one per thread.
pub struct Decoder {
    context: Option<DCtx<'static>>,
    limits: DecodeLimits,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder; its context is made when it is first needed.
    pub fn new(limits: DecodeLimits) -> Self {
        Self { context: None, limits }
    }

    /// Decodes `stored` to `content` (cleared first) and verifies size and digest. Memory is `original_size` at most:
    /// the caller bounds it.
    ///
    /// # Errors
    /// [`DecodeError`]; `content` is then of no use.
    pub fn decode(&mut self, expected: &Expected, stored: &[u8], content: &mut Vec<u8>) -> Result<(), DecodeError> {
        content.clear();
        match expected.compression {
            Compression::None => content.extend_from_slice(stored),
            Compression::Zstd => self.decompress(expected.original_size, stored, content)?,
        }
        verify(expected, content)
    }

    fn decompress(&mut self, size: u64, stored: &[u8], content: &mut Vec<u8>) -> Result<(), DecodeError> {
        if stored.is_empty() {
            return Ok(());
        }
        frame::check_windows(stored, 1 << self.limits.window_log.min(31))?;
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(DCtx::try_create().ok_or(DecodeError::Memory)?),
        };
        content.reserve_exact(size as usize);
        match context.decompress(content, stored) {
            Ok(_) => Ok(()),
            Err(code) if code == TARGET_TOO_SMALL => {
                Err(DecodeError::SizeMismatch { expected: size, got: size, more: true })
            }
            Err(code) => Err(zstd_error(code)),
        }
    }
}

/// Compares content with what the index says: size, then digest.
///
/// # Errors
/// [`DecodeError::SizeMismatch`], [`DecodeError::HashMismatch`].
pub(crate) fn verify(expected: &Expected, content: &[u8]) -> Result<(), DecodeError> {
    let (size, got) = (expected.original_size, content.len() as u64);
    if got != size {
        return Err(DecodeError::SizeMismatch { expected: size, got, more: got > size });
    }
    let digest = Digest::of(expected.digest.algorithm(), content);
    if digest != expected.digest {
        return Err(DecodeError::HashMismatch { expected: expected.digest, got: digest });
    }
    Ok(())
}

/// Decodes content of any size with bounded memory, as its stored bytes come in.
pub struct StreamDecoder {
    expected: Expected,
    hasher: Hasher,
    done: u64,
    zstd: Option<Streaming>,
}

/// What [`StreamDecoder::step`] did.
#[derive(Clone, Copy, Debug)]
pub struct Step<'s> {
    /// How many of the stored bytes were taken.
    pub consumed: usize,
    /// The content that came out: provisional, at most 256 KiB, perhaps empty.
    pub content: &'s [u8],
    /// Whether all stored bytes were taken and all content that follows from them came out.
    pub drained: bool,
}

struct Streaming {
    context: DCtx<'static>,
    max_window: u64,
    step: Vec<u8>,
    /// Whether the input so far ends between two frames.
    between_frames: bool,
}

impl std::fmt::Debug for StreamDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamDecoder")
            .field("expected", &self.expected)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl StreamDecoder {
    /// A decoder for one file.
    ///
    /// # Errors
    /// [`DecodeError::Memory`].
    pub fn new(expected: Expected, limits: DecodeLimits) -> Result<Self, DecodeError> {
        let zstd = match expected.compression {
            Compression::None => None,
            Compression::Zstd => {
                let mut context = DCtx::try_create().ok_or(DecodeError::Memory)?;
                context.set_parameter(DParameter::WindowLogMax(limits.window_log.min(31))).map_err(zstd_error)?;
                let max_window = 1 << limits.window_log.min(31);
                Some(Streaming { context, max_window, step: Vec::with_capacity(STEP), between_frames: true })
            }
        };
        Ok(Self { expected, hasher: Hasher::new(expected.digest.algorithm()), done: 0, zstd })
    }

    /// Takes stored bytes and hands content to `out`, at most 256 KiB at a time. What `out` gets is provisional until
    /// [`finish`](Self::finish) has succeeded.
    ///
    /// # Errors
    /// [`DecodeError`] as soon as the content is known to be wrong, or what `out` returns.
    pub fn feed<E: From<DecodeError>>(
        &mut self,
        mut stored: &[u8],
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let step = self.step(stored)?;
            let (consumed, drained) = (step.consumed, step.drained);
            if !step.content.is_empty() {
                out(step.content)?;
            }
            stored = &stored[consumed..];
            if drained {
                return Ok(());
            }
        }
    }

    /// Takes as much of `stored` as gives at most 256 KiB of content: the way for callers that decide when the next
    /// content comes. Call it again with what it left, until it is drained.
    ///
    /// # Errors
    /// [`DecodeError`] as soon as the content is known to be wrong.
    pub fn step<'s>(&'s mut self, stored: &'s [u8]) -> Result<Step<'s>, DecodeError> {
        let step = match &mut self.zstd {
            None => {
                let consumed = stored.len().min(STEP);
                Step { consumed, content: &stored[..consumed], drained: consumed == stored.len() }
            }
            Some(zstd) => zstd.step(stored)?,
        };
        self.done += step.content.len() as u64;
        if self.done > self.expected.original_size {
            let got = self.expected.original_size;
            return Err(DecodeError::SizeMismatch { expected: got, got, more: true });
        }
        self.hasher.update(step.content);
        Ok(step)
    }

    /// How many bytes of content came out so far.
    pub fn position(&self) -> u64 {
        self.done
    }

    /// The digest of what came out so far.
    pub(crate) fn into_digest(self) -> Digest {
        self.hasher.finish()
    }

    /// Whether all that came out is the content, whole and with the right digest.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn finish(self) -> Result<(), DecodeError> {
        self.check()
    }

    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if self.zstd.as_ref().is_some_and(|zstd| !zstd.between_frames) {
            return Err(DecodeError::Zstd("the last frame is cut short"));
        }
        let (expected, got) = (self.expected.original_size, self.done);
        if got != expected {
            return Err(DecodeError::SizeMismatch { expected, got, more: false });
        }
        let got = self.hasher.clone().finish();
        if got != self.expected.digest {
            return Err(DecodeError::HashMismatch { expected: self.expected.digest, got });
        }
        Ok(())
    }
}

impl Streaming {
    fn step(&mut self, stored: &[u8]) -> Result<Step<'_>, DecodeError> {
        let mut input = InBuffer::around(stored);
        loop {
            self.step.clear();
            let mut output = OutBuffer::around(&mut self.step);
            let before = input.pos();
            let hint = self.context.decompress_stream(&mut output, &mut input).map_err(|code| {
                if code == WINDOW_TOO_LARGE {
                    window_error(&stored[before..], self.max_window)
                } else {
                    zstd_error(code)
                }
            })?;
            let full = self.step.len() == self.step.capacity();
            if hint == 0 || input.pos() > before || !self.step.is_empty() {
                self.between_frames = hint == 0;
            }
            let drained = input.pos() == stored.len() && !full;
            if drained || !self.step.is_empty() {
                return Ok(Step { consumed: input.pos(), content: &self.step, drained });
            }
        }
    }
}

/// The error for a window that the library refuses: it does not tell the size, so the header is read again.
fn window_error(at_frame: &[u8], limit: u64) -> DecodeError {
    let found = frame::check_windows(at_frame, limit).err();
    found.unwrap_or(DecodeError::Zstd("a frame needs a larger window than is allowed"))
}

/// Compresses contents; keeps its context, so make one per thread.
pub struct Encoder {
    context: CCtx<'static>,
    level: i32,
    workers: Option<u32>,
    /// Whether a frame was begun and not ended.
    open: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder at `level`, 1 to 22 (others are clamped by the library). Frames carry the content size, no checksum
    /// (the archive has a SHA-256) and never need a window above 128 MiB.
    ///
    /// # Errors
    /// [`DecodeError::Memory`].
    pub fn new(level: i32) -> Result<Self, DecodeError> {
        let mut context = CCtx::try_create().ok_or(DecodeError::Memory)?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(zstd_error)?;
        context.set_parameter(CParameter::ChecksumFlag(false)).map_err(zstd_error)?;
        Ok(Self { context, level, workers: None, open: false })
    }

    /// Gets rid of a frame that was never ended. A reset is not enough: the library (1.5.7) keeps a job that it could not
    /// give to its threads yet, clears what it is about, and lets a thread have it with the next frame, which is the end of
    /// the process.
    fn abandon(&mut self) -> Result<(), DecodeError> {
        if self.open {
            let workers = self.workers;
            *self = Self::new(self.level)?;
            if let Some(workers) = workers {
                self.set_workers(workers)?;
            }
        }
        Ok(())
    }

    /// Compresses with `workers` threads inside one stream, each 2 MiB at a time where the level allows it, so that
    /// buffers stay small; 0 compresses on the calling thread. Takes effect with the next content.
    ///
    /// # Errors
    /// [`DecodeError::Zstd`] where the library was built without threads.
    pub fn set_workers(&mut self, workers: u32) -> Result<(), DecodeError> {
        self.abandon()?;
        self.workers = Some(workers);
        self.context.set_parameter(CParameter::NbWorkers(workers)).map_err(zstd_error)?;
        self.context.set_parameter(CParameter::JobSize(JOB)).map(drop).map_err(zstd_error)
    }

    /// Compresses `content` to one frame, unless that would not make it smaller: then the answer is `None`. `scratch`
    /// holds the frame; it is kept at the size of the largest content so far, so reuse it.
    ///
    /// # Errors
    /// [`DecodeError::Zstd`], which only a lack of memory causes.
    pub fn encode<'s>(&mut self, content: &[u8], scratch: &'s mut Vec<u8>) -> Result<Option<&'s [u8]>, DecodeError> {
        self.abandon()?;
        // A target one byte smaller than the content stops the library as soon as compression cannot pay.
        let room = content.len().saturating_sub(1);
        if scratch.len() < room {
            scratch.resize(room, 0);
        }
        match self.context.compress2(&mut scratch[..room], content) {
            Ok(size) => Ok(Some(&scratch[..size])),
            Err(code) if code == TARGET_TOO_SMALL => {
                self.context.reset(ResetDirective::SessionOnly).map_err(zstd_error)?;
                Ok(None)
            }
            Err(code) => Err(zstd_error(code)),
        }
    }

    /// Begins a frame of `size` bytes of content, for [`stream`](Self::stream). One that was begun before and not ended is
    /// given up.
    ///
    /// # Errors
    /// [`DecodeError::Zstd`].
    pub fn begin(&mut self, size: u64) -> Result<(), DecodeError> {
        self.abandon()?;
        self.context.reset(ResetDirective::SessionOnly).map_err(zstd_error)?;
        self.context.set_pledged_src_size(Some(size)).map(drop).map_err(zstd_error)?;
        self.open = true;
        Ok(())
    }

    /// Compresses the next piece of the frame, appending to `stored`; `last` ends the frame.
    ///
    /// # Errors
    /// [`DecodeError::Zstd`], also when the pieces do not sum to the size announced.
    pub fn stream(&mut self, piece: &[u8], last: bool, stored: &mut Vec<u8>) -> Result<(), DecodeError> {
        let end = if last { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_continue };
        let mut input = InBuffer::around(piece);
        loop {
            stored.reserve(CCtx::out_size());
            let filled = stored.len();
            let mut output = OutBuffer::around_pos(stored, filled);
            let left = self.context.compress_stream2(&mut output, &mut input, end).map_err(zstd_error)?;
            let done = if last { left == 0 } else { input.pos() == piece.len() };
            if done {
                self.open = !last;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn expected(compression: Compression, stored: &[u8], content: &[u8]) -> Expected {
        Expected {
            compression,
            data_size: stored.len() as u64,
            original_size: content.len() as u64,
            digest: Digest::sha256_of(content),
        }
    }

    fn compress(content: &[u8]) -> Vec<u8> {
        let (mut encoder, mut stored) = (Encoder::new(3).unwrap(), Vec::new());
        encoder.begin(content.len() as u64).unwrap();
        encoder.stream(content, true, &mut stored).unwrap();
        stored
    }

    /// Decodes both ways and insists that they agree.
    fn decode(expected: &Expected, stored: &[u8], piece: usize) -> Result<Vec<u8>, DecodeError> {
        let mut whole = Vec::new();
        let at_once = Decoder::new(DecodeLimits::default()).decode(expected, stored, &mut whole);
        let mut streamed = Vec::new();
        let mut decoder = StreamDecoder::new(*expected, DecodeLimits::default())?;
        let fed = stored.chunks(piece.max(1)).try_for_each(|piece| {
            decoder.feed(piece, |content| {
                streamed.extend_from_slice(content);
                Ok::<_, DecodeError>(())
            })
        });
        let in_pieces = fed.and_then(|()| decoder.finish());
        assert_eq!(at_once.is_ok(), in_pieces.is_ok(), "{at_once:?} {in_pieces:?}");
        at_once.map(|()| {
            assert_eq!(whole, streamed);
            whole
        })
    }

    #[test]
    fn frames_of_every_legal_kind_are_read() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let (left, right) = content.split_at(100_001);
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let empty_skippable = b"\x5f\x2a\x4d\x18\0\0\0\0";
        let many =
            [&empty_skippable[..], &compress(left), skippable, &compress(right), &compress(b""), skippable].concat();
        for piece in [1, 7, 4096, many.len()] {
            assert_eq!(decode(&expected(Compression::Zstd, &many, &content), &many, piece).unwrap(), content);
        }
        for stored in [&b""[..], &compress(b""), skippable] {
            assert_eq!(decode(&expected(Compression::Zstd, stored, b""), stored, 3).unwrap(), b"");
        }
    }

    #[test]
    fn frames_that_were_given_up_leave_nothing_behind() {
        let content: Vec<u8> =
            (0..3_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()).collect();
        let mut encoder = Encoder::new(3).unwrap();
        encoder.set_workers(1).unwrap();
        for begun in 1..12 {
            // The thread has more to do than it can, so a piece waits for it when the frame is given up.
            encoder.begin(content.len() as u64 * 2).unwrap();
            for piece in content.chunks(1 << 20).take(begun) {
                encoder.stream(piece, false, &mut Vec::new()).unwrap();
            }
            let mut stored = Vec::new();
            encoder.begin(content.len() as u64).unwrap();
            encoder.stream(&content, true, &mut stored).unwrap();
            assert_eq!(decode(&expected(Compression::Zstd, &stored, &content), &stored, 1 << 20).unwrap(), content);
        }
    }

    #[test]
    fn damaged_frames_are_refused_either_way() {
        let content = b"the same sentence, again and again. ".repeat(5000);
        let stored = compress(&content);
        let good = expected(Compression::Zstd, &stored, &content);
        assert!(decode(&good, &stored, 1000).is_ok());
        for length in [1, 4, 5, stored.len() / 2, stored.len() - 1] {
            assert!(decode(&good, &stored[..length], 1000).is_err(), "cut to {length}");
        }
        for garbage in [&b"x"[..], b"12345678", b"\x50\x2a\x4d\x18\x09\0\0\0abc", b"\x28\xb5\x2f\xfd"] {
            assert!(decode(&good, &[&stored, garbage].concat(), 1000).is_err(), "{garbage:?}");
        }
        for wrong in [0, 1, good.original_size - 1, good.original_size + 1] {
            let wrong = Expected { original_size: wrong, ..good };
            assert!(matches!(decode(&wrong, &stored, 1000), Err(DecodeError::SizeMismatch { .. })), "{wrong:?}");
        }
        let other = Expected { digest: Digest::sha256_of(b"other"), ..good };
        assert!(decode(&other, &stored, 1000).unwrap_err().is_hash_mismatch());
    }

    #[test]
    fn large_windows_are_refused_until_allowed() {
        // A frame header that asks for 256 MiB, then an empty last block.
        let stored = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (28 - 10) << 3, 0x01, 0x00, 0x00];
        let wanted = expected(Compression::Zstd, &stored, b"");
        let limit = 1 << 27;
        assert_eq!(decode(&wanted, &stored, 99), Err(DecodeError::Window { got: 1 << 28, limit }));
        let raised = DecodeLimits { window_log: 28 };
        Decoder::new(raised).decode(&wanted, &stored, &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_bomb_stops_at_the_declared_size() {
        let stored = compress(&vec![0; 64 << 20]);
        let claim = Expected { original_size: 1000, ..expected(Compression::Zstd, &stored, b"") };
        let mut content = Vec::new();
        assert!(Decoder::new(DecodeLimits::default()).decode(&claim, &stored, &mut content).is_err());
        assert!(content.capacity() < 4096, "{}", content.capacity());
        let (mut decoder, mut seen) = (StreamDecoder::new(claim, DecodeLimits::default()).unwrap(), 0);
        let fed = decoder.feed(&stored, |content| {
            seen += content.len();
            Ok::<_, DecodeError>(())
        });
        assert!(fed.is_err() && seen <= 1000, "{seen}");
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let (mut encoder, mut scratch) = (Encoder::new(3).unwrap(), Vec::new());
        for content in [&b""[..], b"x", b"\x01\x02\x03", Digest::sha256_of(b"noise").as_bytes()] {
            assert_eq!(encoder.encode(content, &mut scratch).unwrap(), None, "{content:?}");
        }
        // The context is as good as new after giving up.
        let stored = encoder.encode(&[7; 5000], &mut scratch).unwrap().unwrap().to_vec();
        assert_eq!(decode(&expected(Compression::Zstd, &stored, &[7; 5000]), &stored, 10).unwrap(), [7; 5000]);
    }

    proptest! {
        #[test]
        fn content_survives(content in prop::collection::vec(0_u8..4, 0..5000), piece in 1_usize..600) {
            let stored = compress(&content);
            prop_assert_eq!(&decode(&expected(Compression::Zstd, &stored, &content), &stored, piece).unwrap(), &content);
            prop_assert_eq!(&decode(&expected(Compression::None, &content, &content), &content, piece).unwrap(), &content);
        }

        #[test]
        fn noise_never_panics(stored in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let framed = [&[0x28, 0xb5, 0x2f, 0xfd][..], &stored].concat();
            for stored in [&stored, &framed] {
                let _ = decode(&expected(Compression::Zstd, stored, b"content"), stored, piece);
            }
        }
    }
}
