//! The first list of tags of TIFF data, which TIFF files and EXIF notes have.

/// Numbers of a tag that are looked at.
const LARGEST_COUNT: usize = 1 << 16;

/// One tag.
struct Entry<'a> {
    tag: u16,
    kind: u16,
    count: usize,
    /// Its bytes, as many as there are.
    data: &'a [u8],
    /// The place of its number in the file, for a short list.
    at: usize,
}

/// The first list of tags.
pub(super) struct Tags<'a> {
    big_endian: bool,
    entries: Vec<Entry<'a>>,
}

impl<'a> Tags<'a> {
    /// Reads the tags of classic TIFF data; those behind the end of truncated data are left out. `None` if the data are
    /// something else.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"MM\0\x2a" => true,
            b"II\x2a\0" => false,
            _ => return None,
        };
        let number = |at: usize, length: usize| {
            let bytes = bytes.get(at..at.checked_add(length)?)?;
            let fold = |value: usize, byte: &u8| value << 8 | usize::from(*byte);
            Some(if big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
        };
        let start = number(4, 4).unwrap_or(bytes.len());
        let mut entries = Vec::new();
        for index in 0..number(start, 2).unwrap_or(0) {
            let at = start + 2 + index * 12;
            let (Some(tag), Some(kind), Some(count), Some(_)) =
                (number(at, 2), number(at + 2, 2), number(at + 4, 4), number(at + 8, 4))
            else {
                break;
            };
            let length = count.saturating_mul(size(kind as u16));
            let place = if length <= 4 { at + 8 } else { number(at + 8, 4).unwrap_or(bytes.len()) };
            let data = bytes.get(place..).unwrap_or_default();
            let data = &data[..data.len().min(length)];
            entries.push(Entry { tag: tag as u16, kind: kind as u16, count, data, at: place });
        }
        Some(Self { big_endian, entries })
    }

    /// The last tag of this number, as a list that holds one twice is read.
    fn entry(&self, tag: u16) -> Option<&Entry<'a>> {
        self.entries.iter().rev().find(|entry| entry.tag == tag)
    }

    /// The numbers of a tag; `None` if it is not there, or holds no numbers from 0.
    pub(super) fn numbers(&self, tag: u16) -> Option<Vec<u64>> {
        let entry = self.entry(tag)?;
        let size = match entry.kind {
            1 | 3 | 4 | 5 | 8 | 9 => size(entry.kind),
            _ => return None,
        };
        let value = |bytes: &[u8]| {
            let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            if self.big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
        };
        let number = |bytes: &[u8]| match entry.kind {
            // A fraction counts if it is a whole number.
            5 => match (value(&bytes[..4]), value(&bytes[4..])) {
                (top, bottom) if bottom > 0 && top % bottom == 0 => top / bottom,
                _ => 0,
            },
            _ => value(bytes),
        };
        let count = entry.count.min(LARGEST_COUNT);
        let found: Vec<u64> = entry.data.chunks_exact(size).take(count).map(number).collect();
        (found.len() == count).then_some(found)
    }

    /// The first number of a tag; bytes are no number, as in Pillow.
    pub(super) fn number(&self, tag: u16) -> Option<u64> {
        self.entry(tag).filter(|entry| entry.kind != 1)?;
        self.numbers(tag)?.first().copied()
    }

    /// The bytes of a tag.
    pub(super) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        Some(self.entry(tag)?.data)
    }

    /// The position of the two bytes of a tag's first number.
    pub(super) fn place_of_short(&self, tag: u16) -> Option<std::ops::Range<usize>> {
        let entry = self.entry(tag).filter(|entry| entry.kind == 3 && entry.count == 1)?;
        Some(entry.at..entry.at + 2)
    }

    /// A number as the data write it in two bytes.
    pub(super) fn short(&self, value: u16) -> [u8; 2] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }
}

/// The bytes of a number of this kind.
fn size(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}
