//! WebP, of an animation the first picture.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::orientation::Orientation;
use super::tags::Tags;
use super::{Decoded, PictureLimits, Pixels, TRUNCATED};

pub(super) fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    let length = bytes.get(4..8).map(|length| u32::from_le_bytes([length[0], length[1], length[2], length[3]]));
    if (bytes.len() as u64) < u64::from(length.unwrap_or(u32::MAX)) + 8 {
        return Err(TRUNCATED.into());
    }
    let failed = |error: DecodingError| match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
        error => format!("it is not a sound WebP: {error}"),
    };
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check(height.into(), width.into())?;
    decoder.set_memory_limit(usize::try_from(limits.pixels * 8).unwrap_or(usize::MAX));
    let exif = decoder.exif_metadata().map_err(failed)?;
    let xmp = decoder.xmp_metadata().map_err(failed)?;
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec).unwrap_or(exif));
    let tags = exif.as_deref().filter(|exif| !exif.is_empty());
    let tags = tags.map(|exif| Tags::read(exif).ok_or("its EXIF data cannot be read")).transpose()?;
    let orientation = Orientation::of(tags.as_ref(), xmp.as_deref());
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut values = vec![0; decoder.output_buffer_size().ok_or("it is too large")?];
    if decoder.is_animated() {
        decoder.read_frame(&mut values).map_err(failed)?;
    } else {
        decoder.read_image(&mut values).map_err(failed)?;
    }
    let pixels = Pixels::rgb(width, height, values.chunks_exact(channels), |piece| [piece[0], piece[1], piece[2]])?;
    Ok(Decoded { pixels, orientation })
}
