//! GIF, of an animation the first picture.

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::orientation::Orientation;
use super::{Decoded, PictureLimits, Pixels, TRUNCATED};

/// The colours of a palette; those that it does not name are black, as in Pillow.
pub(super) fn colours(palette: &[u8]) -> [[u8; 3]; 256] {
    let mut colours = [[0; 3]; 256];
    colours.iter_mut().zip(palette.chunks_exact(3)).for_each(|(colour, of)| colour.copy_from_slice(of));
    colours
}

pub(super) fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    whole(bytes)?;
    let failed = |error: DecodingError| match error {
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
        error => format!("it is not a sound GIF: {error}"),
    };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(
        std::num::NonZeroU64::new(limits.pixels.max(1)).unwrap_or(std::num::NonZeroU64::MIN),
    ));
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(bytes).map_err(failed)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let (screen_width, screen_height) = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(failed)?.ok_or("it is a GIF without a picture")?;
    let (left, top, wide, high) =
        (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width), usize::from(frame.height));
    // A picture that reaches over the screen makes it larger, as in Pillow.
    let width = usize::from(screen_width).max(left + wide);
    let height = usize::from(screen_height).max(top + high);
    limits.check(height as u64, width as u64)?;
    limits.check(high as u64, wide as u64)?;
    let palette = frame.palette.clone().or(global);
    let background = usize::from(frame.transparent.unwrap_or(0));
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(failed)?;
    // Without a palette, or with one of the greys in order, numbers are grey.
    let grey: [[u8; 3]; 256] = std::array::from_fn(|grey| [grey as u8; 3]);
    let colours = match &palette {
        Some(palette) if palette.chunks_exact(3).zip(&grey).any(|(colour, grey)| colour != grey) => colours(palette),
        _ => grey,
    };
    let mut values = colours[background].repeat(width * height);
    for (row, indices) in indices.chunks_exact(wide).enumerate() {
        let start = ((top + row) * width + left) * 3;
        let place = values[start..start + wide * 3].chunks_exact_mut(3);
        place.zip(indices).for_each(|(pixel, index)| pixel.copy_from_slice(&colours[usize::from(*index)]));
    }
    let pixels = Pixels { width: width as u32, height: height as u32, channels: 3, values };
    Ok(Decoded { pixels, orientation: Orientation::UPRIGHT })
}

/// Goes through all blocks to the trailer.
fn whole(bytes: &[u8]) -> Result<(), String> {
    let byte = |at: usize| bytes.get(at).copied().ok_or(TRUNCATED);
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let blocks = |mut at: usize| -> Result<usize, &'static str> {
        while byte(at)? != 0 {
            at += 1 + usize::from(byte(at)?);
        }
        Ok(at + 1)
    };
    let mut at = 13 + table(byte(10)?);
    loop {
        at = match byte(at)? {
            b';' => return Ok(()),
            b'!' => blocks(at + 2)?,
            b',' => blocks(at + 11 + table(byte(at + 9)?))?,
            // Stray bytes between blocks are passed over.
            _ => at + 1,
        };
    }
}
