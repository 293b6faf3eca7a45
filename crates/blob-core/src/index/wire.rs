//! Reading FlatBuffers tables with every bound checked, in safe code.
//!
//! [`Table::parse`] checks a table against its vtable once; the accessors then only look fields up. They still use
//! checked slices, so even a mistake here would be a default value, never memory of someone else.

use super::IndexError;

/// A table whose vtable and inline fields lie within the buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    buffer: &'a [u8],
    position: u32,
}

/// Reads `N` bytes at `at`, if they are there.
fn read<const N: usize>(buffer: &[u8], at: usize) -> Option<[u8; N]> {
    buffer.get(at..)?.first_chunk().copied()
}

/// Follows the unsigned offset stored at `at`.
fn follow(buffer: &[u8], at: usize) -> Option<usize> {
    let offset = u32::from_le_bytes(read(buffer, at)?) as usize;
    at.checked_add(offset).filter(|&target| offset != 0 && target < buffer.len())
}

/// Where a vtable stands: `back` bytes before its table, or behind it when `back` is negative.
fn step_back(position: usize, back: i32) -> Option<usize> {
    let distance = back.unsigned_abs() as usize;
    if back >= 0 { position.checked_sub(distance) } else { position.checked_add(distance) }
}

impl<'a> Table<'a> {
    /// The root table of `buffer`.
    pub(super) fn root(buffer: &'a [u8]) -> Result<Self, IndexError> {
        let position = follow(buffer, 0).ok_or_else(|| malformed("the root offset leaves the index", 0))?;
        Self::parse(buffer, position)
    }

    /// The table at `position`, which must lie wholly within `buffer`, and its vtable too.
    pub(super) fn parse(buffer: &'a [u8], position: usize) -> Result<Self, IndexError> {
        let fail = |what| Err(malformed(what, position));
        let Some(back) = read(buffer, position).map(i32::from_le_bytes) else {
            return fail("a table leaves the index");
        };
        let Some(vtable) = step_back(position, back) else {
            return fail("a vtable lies before the index");
        };
        let (Some(vtable_size), Some(table_size)) = (read(buffer, vtable), read(buffer, vtable.saturating_add(2)))
        else {
            return fail("a vtable leaves the index");
        };
        let (vtable_size, table_size) = (u16::from_le_bytes(vtable_size), u16::from_le_bytes(table_size));
        let vtable_fits =
            vtable_size >= 4 && vtable_size % 2 == 0 && vtable.saturating_add(vtable_size as usize) <= buffer.len();
        let table_fits = table_size >= 4 && position + table_size as usize <= buffer.len();
        if !vtable_fits || !table_fits {
            return fail("a table or its vtable leaves the index");
        }
        let position = u32::try_from(position).map_err(|_| malformed("the index is larger than 4 GiB", position))?;
        Ok(Self { buffer, position })
    }

    /// A table that was parsed before, at `position` of the same buffer.
    pub(super) fn trusted(buffer: &'a [u8], position: u32) -> Self {
        Self { buffer, position }
    }

    pub(super) fn position(self) -> u32 {
        self.position
    }

    /// Where its vtable stands. Whether fields lie in their table is the same for all tables that share one.
    pub(super) fn vtable(self) -> Option<usize> {
        let position = self.position as usize;
        step_back(position, i32::from_le_bytes(read(self.buffer, position)?))
    }

    /// Where field `slot` of `size` bytes stands, or `None` when it is absent.
    fn field(self, slot: u16, size: usize) -> Option<usize> {
        let position = self.position as usize;
        let vtable = self.vtable()?;
        let header: [u8; 4] = read(self.buffer, vtable)?;
        let vtable_size = u16::from_le_bytes([header[0], header[1]]) as usize;
        let table_size = u16::from_le_bytes([header[2], header[3]]) as usize;
        let at = 4 + 2 * slot as usize;
        if at + 2 > vtable_size {
            return None;
        }
        let offset = u16::from_le_bytes(read(self.buffer, vtable + at)?) as usize;
        (offset != 0 && offset + size <= table_size).then_some(position + offset)
    }

    /// Whether field `slot` names an offset outside its table: it would read as absent, so the check refuses it.
    pub(super) fn check_field(self, slot: u16, size: usize) -> Result<(), IndexError> {
        let present = self.field(slot, 0).is_some();
        if present && self.field(slot, size).is_none() {
            return Err(malformed("a field leaves its table", self.position as usize));
        }
        Ok(())
    }

    /// How far behind the table's start field `slot` of `size` bytes stands, 0 when it is absent. All tables with the same
    /// [`vtable`](Self::vtable) agree; one that names a place outside the table is refused.
    pub(super) fn offset(self, slot: u16, size: usize) -> Result<usize, IndexError> {
        self.check_field(slot, size)?;
        Ok(self.field(slot, size).map_or(0, |at| at - self.position as usize))
    }

    /// The `N` bytes at an [`offset`](Self::offset), or zeros when the field is absent.
    pub(super) fn at<const N: usize>(self, offset: usize) -> [u8; N] {
        let present = if offset == 0 { None } else { read(self.buffer, self.position as usize + offset) };
        present.unwrap_or([0; N])
    }

    /// Where the vector of bytes that the field at an [`offset`](Self::offset) names begins, and what it holds; `None` when
    /// the field is absent.
    pub(super) fn bytes_at(self, offset: usize) -> Result<Option<(u32, &'a [u8])>, IndexError> {
        if offset == 0 {
            return Ok(None);
        }
        let bytes = || {
            let vector = follow(self.buffer, self.position as usize + offset)?;
            let length = u32::from_le_bytes(read(self.buffer, vector)?) as usize;
            let bytes = self.buffer.get(vector + 4..)?.get(..length)?;
            Some((u32::try_from(vector + 4).ok()?, bytes))
        };
        bytes().map(Some).ok_or_else(|| malformed("a vector leaves the index", self.position as usize))
    }

    pub(crate) fn u64(self, slot: u16) -> u64 {
        self.field(slot, 8).and_then(|at| read(self.buffer, at)).map_or(0, u64::from_le_bytes)
    }

    pub(crate) fn i64(self, slot: u16) -> i64 {
        self.field(slot, 8).and_then(|at| read(self.buffer, at)).map_or(0, i64::from_le_bytes)
    }

    pub(crate) fn u32(self, slot: u16, default: u32) -> u32 {
        self.field(slot, 4).and_then(|at| read(self.buffer, at)).map_or(default, u32::from_le_bytes)
    }

    pub(crate) fn i8(self, slot: u16) -> i8 {
        self.field(slot, 1).and_then(|at| read(self.buffer, at)).map_or(0, i8::from_le_bytes)
    }

    /// A vector of bytes, or a string without its NUL.
    pub(crate) fn bytes(self, slot: u16) -> Option<&'a [u8]> {
        let (start, length) = self.vector_at(slot)?;
        self.buffer.get(start..start.checked_add(length)?)
    }

    /// Refuses a vector that is present but not wholly within the buffer.
    pub(super) fn check_vector(self, slot: u16, item: usize) -> Result<(), IndexError> {
        self.check_field(slot, 4)?;
        if self.field(slot, 4).is_none() {
            return Ok(());
        }
        let fits = self.vector_at(slot).is_some_and(|(start, length)| {
            length
                .checked_mul(item)
                .and_then(|size| start.checked_add(size))
                .is_some_and(|end| end <= self.buffer.len())
        });
        fits.then_some(()).ok_or_else(|| malformed("a vector leaves the index", self.position as usize))
    }

    /// Start of the items and their number.
    fn vector_at(self, slot: u16) -> Option<(usize, usize)> {
        let vector = follow(self.buffer, self.field(slot, 4)?)?;
        let length = u32::from_le_bytes(read(self.buffer, vector)?) as usize;
        Some((vector + 4, length))
    }

    /// The tables of a vector that [`check_vector`](Self::check_vector) let pass; each is checked as it is reached.
    pub(super) fn tables(self, slot: u16) -> impl ExactSizeIterator<Item = Result<Self, IndexError>> {
        let (start, length) = self.vector_at(slot).unwrap_or_default();
        (0..length).map(move |number| {
            let at = start + 4 * number;
            let position = follow(self.buffer, at).ok_or_else(|| malformed("an offset leaves the index", at))?;
            Self::parse(self.buffer, position)
        })
    }
}

pub(super) fn malformed(what: &'static str, at: usize) -> IndexError {
    IndexError::Malformed { what, at }
}
