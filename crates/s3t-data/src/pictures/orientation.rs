//! The way up of a picture, as `ImageOps.exif_transpose` of Pillow reads and applies it.

use super::Pixels;
use super::tags::Tags;

/// The tag of the orientation in EXIF data and TIFF files.
pub(super) const ORIENTATION: u16 = 0x0112;

/// The way up that a file's notes give; 1 and everything but 2 to 8 leave the picture as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u64);

impl Orientation {
    /// The picture as it is.
    pub(super) const UPRIGHT: Self = Self(1);

    /// The orientation by EXIF data, which count first, and XMP data.
    pub(super) fn of(exif: Option<&Tags<'_>>, xmp: Option<&[u8]>) -> Self {
        let by_tag = exif.and_then(|exif| exif.number(ORIENTATION));
        Self(by_tag.or_else(|| by_xmp(xmp?)).unwrap_or(1))
    }

    /// The picture the right way up.
    pub(super) fn apply(self, pixels: Pixels) -> Pixels {
        let (height, width) = (pixels.height as usize, pixels.width as usize);
        // Where a new pixel comes from, as row and column.
        let from: fn(usize, usize, usize, usize) -> (usize, usize) = match self.0 {
            2 => |y, x, _, width| (y, width - 1 - x),
            3 => |y, x, height, width| (height - 1 - y, width - 1 - x),
            4 => |y, x, height, _| (height - 1 - y, x),
            5 => |y, x, _, _| (x, y),
            6 => |y, x, height, _| (height - 1 - x, y),
            7 => |y, x, height, width| (height - 1 - x, width - 1 - y),
            8 => |y, x, _, width| (x, width - 1 - y),
            _ => return pixels,
        };
        let turned = self.0 >= 5;
        let (new_height, new_width) = if turned { (width, height) } else { (height, width) };
        let mut values = Vec::with_capacity(pixels.values.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (row, column) = from(y, x, height, width);
                values.extend_from_slice(&pixels.values[(row * width + column) * pixels.channels..][..pixels.channels]);
            }
        }
        Pixels { width: new_width as u32, height: new_height as u32, values, ..pixels }
    }
}

/// The number behind the first `tiff:Orientation="` or `tiff:Orientation>` that has one.
fn by_xmp(xmp: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"tiff:Orientation";
    let at = |start: usize| {
        let rest = &xmp[start..];
        let rest = rest.strip_prefix(NAME)?;
        let rest = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        rest.first().filter(|digit| digit.is_ascii_digit()).map(|digit| u64::from(digit - b'0'))
    };
    (0..xmp.len()).find_map(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xmp_is_searched_for_the_first_orientation_with_a_number() {
        assert_eq!(by_xmp(b"<x tiff:Orientation='6' tiff:Orientation=\"8\"/>"), Some(8));
        assert_eq!(by_xmp(b"<tiff:Orientation>3</tiff:Orientation>"), Some(3));
        assert_eq!(by_xmp(b"tiff:Orientation=\""), None);
    }
}
