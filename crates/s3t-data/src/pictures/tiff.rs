//! TIFF: the kinds of samples that Pillow reads, each told by its tags, and the first picture of a file.

use std::io::Cursor;

use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::jpeg::rgb_of_cmyk;
use super::orientation::Orientation;
use super::tags::Tags;
use super::{Decoded, PictureLimits, Pixels, TRUNCATED};

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const SAMPLES: u16 = 277;
const PLANAR: u16 = 284;
const COLOUR_MAP: u16 = 320;
const EXTRA: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const XMP: u16 = 700;

/// The meaning of the samples of a pixel.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Grey { inverted: bool },
    Palette,
    Rgb { premultiplied: bool },
    Cmyk,
}

impl Kind {
    /// The samples of a pixel that are read.
    fn least_samples(self) -> usize {
        match self {
            Self::Grey { .. } | Self::Palette => 1,
            Self::Rgb { premultiplied: false } => 3,
            Self::Rgb { premultiplied: true } | Self::Cmyk => 4,
        }
    }
}

pub(super) fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    let tags = Tags::read(bytes).ok_or("it is a BigTIFF, which is not supported")?;
    let number = |tag: u16, default: u64| {
        tags.numbers(tag).map_or(default, |numbers| numbers.first().copied().unwrap_or(default))
    };
    let (width, height) = (number(WIDTH, 0), number(HEIGHT, 0));
    limits.check(height, width)?;
    let (kind, bits, samples) = kind(&tags)?;
    // The meaning of the samples is taken from the tags above: the decoder is told that black is zero.
    let mut bytes = bytes.to_vec();
    if kind == Kind::Palette || kind == (Kind::Grey { inverted: true }) {
        let place = tags.place_of_short(PHOTOMETRIC).ok_or("its `PhotometricInterpretation` is not one number")?;
        let black_is_zero = tags.short(1);
        bytes.get_mut(place).ok_or(TRUNCATED)?.copy_from_slice(&black_is_zero);
    }
    let orientation = Orientation::of(Some(&tags), tags.bytes(XMP));
    let palette = if kind == Kind::Palette { palette(&tags, bits)? } else { [[0; 3]; 256] };
    let values = samples_of(bytes, (width, height), limits)?;
    let (width, height) = (width as u32, height as u32);
    // The decoder leaves samples out that have no meaning.
    let samples = match &values {
        DecodingResult::U8(values) if bits == 8 => values.len() / (width as usize * height as usize),
        _ => samples,
    };
    if samples < kind.least_samples() {
        return Err(TRUNCATED.into());
    }
    let pixels = match values {
        DecodingResult::U8(values) if bits < 8 => {
            let values = unpacked(&values, bits, width as usize);
            let scale = 255 / ((1 << bits) - 1);
            Pixels::rgb(width, height, values.chunks_exact(1), |piece| match kind {
                Kind::Palette => palette[usize::from(piece[0])],
                Kind::Grey { inverted: true } => [255 - piece[0] * scale; 3],
                _ => [piece[0] * scale; 3],
            })?
        }
        DecodingResult::U8(values) => Pixels::rgb(width, height, values.chunks_exact(samples), |piece| match kind {
            Kind::Palette => palette[usize::from(piece[0])],
            Kind::Grey { inverted } => [if inverted { 255 - piece[0] } else { piece[0] }; 3],
            Kind::Rgb { premultiplied: true } => {
                std::array::from_fn(|channel| multiplied_out(piece[channel], piece[3]))
            }
            Kind::Rgb { .. } => [piece[0], piece[1], piece[2]],
            Kind::Cmyk => rgb_of_cmyk(piece.iter().copied()),
        })?,
        DecodingResult::U16(values) => {
            // Grey is cut to the largest of 8 bits, colours to their high bytes, as Pillow does.
            let eight = |value: u16| if samples == 1 { value.min(255) as u8 } else { (value >> 8) as u8 };
            let values: Vec<u8> = values.into_iter().map(eight).collect();
            Pixels::rgb(width, height, values.chunks_exact(samples), |piece| match kind {
                Kind::Grey { .. } | Kind::Palette => [piece[0]; 3],
                Kind::Rgb { .. } => [piece[0], piece[1], piece[2]],
                Kind::Cmyk => rgb_of_cmyk(piece.iter().copied()),
            })?
        }
        _ => return Err("its samples are not whole numbers of at most 16 bits".into()),
    };
    Ok(Decoded { pixels, orientation })
}

/// The kind of the samples, their bits and their number in a pixel; every other layout is refused.
fn kind(tags: &Tags<'_>) -> Result<(Kind, u8, usize), String> {
    let list = |tag: u16, default: &[u64]| tags.numbers(tag).unwrap_or(default.to_vec());
    let number = |tag: u16, default: u64| list(tag, &[default]).first().copied().unwrap_or(default);
    let compression = number(COMPRESSION, 1);
    if ![1, 5, 8, 32_773, 32_946].contains(&compression) {
        return Err(format!(
            "its `Compression` is {compression}; 1 (none), 5 (LZW), 8 and 32946 (deflate) and 32773 (PackBits) are supported"
        ));
    }
    for (tag, name) in [(FILL_ORDER, "FillOrder"), (PLANAR, "PlanarConfiguration"), (SAMPLE_FORMAT, "SampleFormat")] {
        if list(tag, &[1]).iter().any(|value| *value != 1) {
            return Err(format!("its `{name}` is {}; 1 is supported", number(tag, 1)));
        }
    }
    let (samples, extra, photometric) = (number(SAMPLES, 1), list(EXTRA, &[]), number(PHOTOMETRIC, 0));
    let bits = list(BITS, &[1]);
    let depth = bits.first().copied().unwrap_or(1);
    if bits.iter().any(|bits| *bits != depth) || (bits.len() > 1 && bits.len() as u64 != samples) {
        return Err(format!("its `BitsPerSample` is {bits:?} for {samples} samples"));
    }
    let grey = Kind::Grey { inverted: photometric == 0 };
    let rgb = Kind::Rgb { premultiplied: extra.first() == Some(&1) };
    let kind = match (photometric, depth, samples, &extra[..]) {
        (0 | 1, 1 | 2 | 4 | 8, 1, []) | (1, 16, 1, []) | (1, 8, 2, [0 | 2]) => grey,
        (3, 1 | 2 | 4 | 8, 1, []) | (3, 8, 2, [0 | 2]) => Kind::Palette,
        (2, 8 | 16, 3, []) | (2, 8, 4, [] | [0..=2 | 999]) | (2, 16, 4, [] | [0 | 2]) => rgb,
        (5, 8 | 16, 4, []) | (5, 8, 5, [0]) => Kind::Cmyk,
        _ => {
            return Err(format!(
                "its layout is not supported: `PhotometricInterpretation` {photometric}, {samples} samples of {depth} bits, \
                 `ExtraSamples` {extra:?}"
            ));
        }
    };
    Ok((kind, depth as u8, samples as usize))
}

fn samples_of(bytes: Vec<u8>, size: (u64, u64), limits: PictureLimits) -> Result<DecodingResult, String> {
    let failed = |error: TiffError| match error {
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
        error => format!("it is not a sound TIFF: {error}"),
    };
    let mut most = Limits::default();
    most.decoding_buffer_size = usize::try_from(limits.pixels * 10).unwrap_or(usize::MAX);
    most.intermediate_buffer_size = most.decoding_buffer_size;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failed)?.with_limits(most);
    let (width, height) = decoder.dimensions().map_err(failed)?;
    if (u64::from(width), u64::from(height)) != size {
        return Err("it is a TIFF with two sizes".into());
    }
    decoder.read_image().map_err(failed)
}

/// The colours of a palette of three times 2^bits numbers of 16 bits, of which the high bytes count.
fn palette(tags: &Tags<'_>, bits: u8) -> Result<[[u8; 3]; 256], String> {
    let count = 1_usize << bits;
    let map = tags.numbers(COLOUR_MAP).filter(|map| map.len() == 3 * count);
    let map = map.ok_or_else(|| format!("its `ColorMap` has not {} numbers", 3 * count))?;
    let mut colours = [[0; 3]; 256];
    for (index, colour) in colours.iter_mut().take(count).enumerate() {
        *colour = std::array::from_fn(|channel| (map[channel * count + index] >> 8) as u8);
    }
    Ok(colours)
}

/// The samples of rows that are packed into whole bytes, from the highest bits.
fn unpacked(packed: &[u8], bits: u8, width: usize) -> Vec<u8> {
    let bits = usize::from(bits);
    let line = (width * bits).div_ceil(8);
    let value =
        |row: &[u8], at: usize| (usize::from(row[at * bits / 8]) >> (8 - bits - at * bits % 8)) & ((1 << bits) - 1);
    packed.chunks_exact(line).flat_map(|row| (0..width).map(move |at| value(row, at) as u8)).collect()
}

/// A colour that was multiplied by its opacity, before that.
fn multiplied_out(value: u8, opacity: u8) -> u8 {
    match opacity {
        0 => 0,
        255 => value,
        _ => (255 * u32::from(value) / u32::from(opacity)).min(255) as u8,
    }
}
