//! BMP.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder, ImageError};

use super::orientation::Orientation;
use super::{Decoded, PictureLimits, Pixels, TRUNCATED};

pub(super) fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    let failed = |error: ImageError| match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
        error => format!("it is not a sound BMP: {error}"),
    };
    let widths = colour_bits(bytes)?;
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check(height.into(), width.into())?;
    let channels = match decoder.color_type() {
        ColorType::L8 => 1,
        ColorType::Rgb8 => 3,
        ColorType::Rgba8 => 4,
        other => return Err(format!("it is a BMP of {other:?}, which is not supported")),
    };
    let mut values = vec![0; width as usize * height as usize * channels];
    decoder.read_image(&mut values).map_err(failed)?;
    let pixels = Pixels::rgb(width, height, values.chunks_exact(channels), |piece| match *piece {
        [grey] => [grey; 3],
        _ => {
            std::array::from_fn(|channel| widths.map_or(piece[channel], |bits| widened(piece[channel], bits[channel])))
        }
    })?;
    Ok(Decoded { pixels, orientation: Orientation::UPRIGHT })
}

/// The bits of red, green and blue in a picture of 16 bits a pixel; `None` for others. Refuses what decoders read differently.
fn colour_bits(bytes: &[u8]) -> Result<Option<[u32; 3]>, String> {
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at + length).ok_or(TRUNCATED)?;
        Ok::<u32, String>(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    if number(14, 4)? < 40 {
        return Ok(None);
    }
    match (number(28, 2)?, number(30, 4)?) {
        (_, 1 | 2) => Err("it is a run-length coded BMP, which is not supported; save it in another format".into()),
        (16, 0) => Ok(Some([5, 5, 5])),
        (16, 3) => match [number(54, 4)?, number(58, 4)?, number(62, 4)?] {
            [0xF800, 0x07E0, 0x001F] => Ok(Some([5, 6, 5])),
            [0x7C00, 0x03E0, 0x001F] => Ok(Some([5, 5, 5])),
            masks => Err(format!("it is a BMP with the colour masks {masks:x?}, which are not supported")),
        },
        _ => Ok(None),
    }
}

/// A colour of few bits as Pillow widens it, rounded down, from the decoder's, rounded to nearest.
fn widened(value: u8, bits: u32) -> u8 {
    let largest = (1_u32 << bits) - 1;
    let narrow = (u32::from(value) * largest + 127) / 255;
    (narrow * 255 / largest) as u8
}
