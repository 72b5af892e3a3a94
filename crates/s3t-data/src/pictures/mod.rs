//! Picture files, read as `load_image` of `transformers` reads them with Pillow, and brought to the pixels that a model
//! takes.
//!
//! A picture is told by its first bytes, not by its name. Whatever is not there as a whole is refused: a decoder never
//! fills up what is missing. Transparency is dropped, not blended, and of several pictures in a file the first counts.

mod bmp;
mod gif;
mod jpeg;
mod orientation;
mod png;
mod resample;
mod tags;
mod tiff;
mod webp;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use s3t_core::picture::PictureSteps;
use s3t_core::{Payload, PictureInput};

use orientation::Orientation;

/// The limits of a picture file. A picture beyond them is refused before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLimits {
    /// The largest file in bytes.
    pub bytes: u64,
    /// The largest product of width and height, in the file and after resizing.
    pub pixels: u64,
}

impl PictureLimits {
    /// The largest side in pixels.
    pub const LARGEST_SIDE: u32 = 16_384;
    /// The most pixels that can be allowed: four bytes each of them can be addressed.
    pub const MOST_PIXELS: u64 = 1 << 28;
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { bytes: 128 << 20, pixels: 50_000_000 }
    }
}

impl PictureLimits {
    /// Checks a size.
    fn check(self, height: u64, width: u64) -> Result<(), String> {
        let side = u64::from(Self::LARGEST_SIDE);
        if height == 0 || width == 0 {
            return Err("it has no pixels".into());
        }
        if height > side || width > side {
            return Err(format!("its size is {width}x{height}, but the largest side is {side}"));
        }
        if height * width > self.pixels {
            return Err(format!(
                "its {width}x{height} are {} pixels, but the limit is {}; an image folder may set another in `max_pixels`",
                height * width,
                self.pixels
            ));
        }
        Ok(())
    }
}

/// 8-bit pixels, rows from the top, channels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pixels {
    width: u32,
    height: u32,
    channels: usize,
    values: Vec<u8>,
}

impl Pixels {
    /// The bytes of a row.
    fn line(&self) -> usize {
        self.width as usize * self.channels
    }

    /// RGB of pixels that a function makes from the pieces of a decoder's output; refused if they are fewer than the size
    /// asks for.
    fn rgb<'a>(
        width: u32,
        height: u32,
        pieces: impl Iterator<Item = &'a [u8]>,
        colour: impl Fn(&[u8]) -> [u8; 3],
    ) -> Result<Self, String> {
        let count = width as usize * height as usize;
        let mut values = Vec::with_capacity(count * 3);
        pieces.take(count).for_each(|piece| values.extend(colour(piece)));
        if values.len() < count * 3 {
            return Err(TRUNCATED.into());
        }
        Ok(Self { width, height, channels: 3, values })
    }

    /// The picture in grey, by the integer weights of Rec. 601 that Pillow uses.
    fn into_grey(self) -> Self {
        let grey = |pixel: &[u8]| {
            let weighed: u32 =
                pixel.iter().zip([19_595, 38_470, 7_471]).map(|(value, of)| u32::from(*value) * of).sum();
            ((weighed + 0x8000) >> 16) as u8
        };
        let values = self.values.chunks_exact(3).map(grey).collect();
        Self { channels: 1, values, ..self }
    }

    /// The middle part, padded with zeros where the picture is smaller.
    fn cropped(self, [height, width]: [u32; 2]) -> Self {
        let (top, left) = (offset(self.height, height), offset(self.width, width));
        let line = self.line();
        let mut values = Vec::with_capacity(height as usize * width as usize * self.channels);
        for y in 0..i64::from(height) {
            for x in 0..i64::from(width) {
                let (row, column) = (y + top, x + left);
                let inside = (0..i64::from(self.height)).contains(&row) && (0..i64::from(self.width)).contains(&column);
                let at = if inside { row as usize * line + column as usize * self.channels } else { 0 };
                values.extend((0..self.channels).map(|channel| if inside { self.values[at + channel] } else { 0 }));
            }
        }
        Self { width, height, values, ..self }
    }
}

/// The first row or column of the old picture in the middle part, negative where it is padded; as `center_crop` of
/// `transformers` rounds it.
fn offset(old: u32, new: u32) -> i64 {
    (i64::from(old) - i64::from(new)).div_euclid(2)
}

/// A decoded file.
struct Decoded {
    pixels: Pixels,
    orientation: Orientation,
}

/// The message for a file that ends too early.
const TRUNCATED: &str = "it is truncated; fetch it again";

/// Decodes a file by its first bytes.
fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    let decoder: fn(&[u8], PictureLimits) -> Result<Decoded, String> = match bytes {
        [0xFF, 0xD8, 0xFF, ..] => jpeg::decode,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => gif::decode,
        [b'B', b'M', ..] => bmp::decode,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => tiff::decode,
        _ if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => png::decode,
        _ if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => webp::decode,
        [] => return Err("it is empty".into()),
        _ => return Err("it is not a JPEG, PNG, WebP, GIF, BMP or TIFF file".into()),
    };
    // A decoder's panic is a fault of the decoder, and still a picture that cannot be read.
    let decoded = catch_unwind(AssertUnwindSafe(|| decoder(bytes, limits))).unwrap_or_else(|panic| {
        let cause = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("its decoder gave up: {}", cause.unwrap_or("without a reason")))
    })?;
    debug_assert_eq!(decoded.pixels.values.len(), decoded.pixels.line() * decoded.pixels.height as usize);
    Ok(decoded)
}

/// Reads the bytes of a file up to the limit.
fn file_bytes(path: &Path, limits: PictureLimits) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a file".into());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limits.bytes {
        return Err(format!(
            "it has more than {} bytes, which is the limit; an image folder may set another in `max_bytes`",
            limits.bytes
        ));
    }
    Ok(bytes)
}

/// Reads a picture file: decoded, the right way up, in `channels` (1 for grey, 3 for RGB), resized and cropped.
///
/// # Errors
///
/// What is wrong with the file, in words.
pub(crate) fn read(path: &Path, channels: u8, steps: &PictureSteps, limits: PictureLimits) -> Result<Payload, String> {
    let payload = file_bytes(path, limits).and_then(|bytes| read_bytes(&bytes, channels, steps, limits));
    payload.map_err(|problem| format!("cannot read the image `{}`: {problem}", path.display()))
}

/// Reads the bytes of a picture file: decoded, the right way up, in `channels` (1 for grey, 3 for RGB), resized and cropped.
///
/// # Errors
///
/// The problem with the bytes, in words.
fn read_bytes(bytes: &[u8], channels: u8, steps: &PictureSteps, limits: PictureLimits) -> Result<Payload, String> {
    let decoded = decode(bytes, limits)?;
    let pixels = decoded.orientation.apply(decoded.pixels);
    let Pixels { width, height, values, .. } =
        process(if channels == 1 { pixels.into_grey() } else { pixels }, steps, limits)?;
    Ok(Payload::Image { width, height, channels, pixels: values })
}

/// Reads a picture file as a model takes pictures.
///
/// # Errors
///
/// What is wrong with the file, or that its processed size is not the model's, in words.
pub(crate) fn read_for(path: &Path, input: &PictureInput, limits: PictureLimits) -> Result<Payload, String> {
    let name = format!("the image `{}`", path.display());
    let bytes = file_bytes(path, limits).map_err(|problem| format!("cannot read {name}: {problem}"))?;
    bytes_for(&bytes, &name, input, limits)
}

/// Reads the bytes of a picture file as a model takes pictures; `name` calls the picture in messages.
///
/// # Errors
///
/// The problem with the bytes, or that the processed size is not the model's, in words.
pub(crate) fn bytes_for(
    bytes: &[u8],
    name: &str,
    input: &PictureInput,
    limits: PictureLimits,
) -> Result<Payload, String> {
    if ![1, 3].contains(&input.channels) {
        return Err(format!(
            "cannot read {name}: the model takes {} channels, but a picture has 1 or 3",
            input.channels
        ));
    }
    let payload = read_bytes(bytes, input.channels, &input.steps, limits);
    match payload.map_err(|problem| format!("cannot read {name}: {problem}"))? {
        Payload::Image { width, height, .. } if (height, width) != (input.height, input.width) => Err(format!(
            "cannot use {name}: the model's processor makes it {width}x{height}, but the model takes {}x{}; resize it before, or \
             set `size`, `do_resize` and `do_center_crop` of `preprocessor_config.json`",
            input.width, input.height
        )),
        payload => Ok(payload),
    }
}

/// Resizes and crops.
fn process(pixels: Pixels, steps: &PictureSteps, limits: PictureLimits) -> Result<Pixels, String> {
    let mut pixels = pixels;
    if let Some(resize) = steps.resize {
        let [height, width] = resize.size.of(pixels.height, pixels.width);
        let resized = |problem| format!("resized to {width}x{height}: {problem}");
        limits.check(height.into(), width.into()).map_err(resized)?;
        // The picture between the two passes.
        let between =
            if resample::down_first(&pixels, height, width) { (height, pixels.width) } else { (pixels.height, width) };
        limits.check(between.0.into(), between.1.into()).map_err(resized)?;
        pixels = resample::resize(pixels, height, width, resize.filter);
    }
    if let Some(crop) = steps.crop {
        limits.check(crop[0].into(), crop[1].into()).map_err(|problem| format!("cropped: {problem}"))?;
        pixels = pixels.cropped(crop);
    }
    Ok(pixels)
}
