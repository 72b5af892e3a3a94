//! PNG, of an animation the first picture.

use std::io::{Cursor, Read};

use flate2::read::ZlibDecoder;
use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Transformations};

use super::orientation::Orientation;
use super::tags::Tags;
use super::{Decoded, PictureLimits, Pixels, TRUNCATED};

/// The most bytes of a compressed text.
const LARGEST_TEXT: u64 = 1 << 20;

/// Notes in chunks.
#[derive(Default)]
struct Notes {
    palette: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
    /// EXIF data as hexadecimal text.
    profile: Option<Vec<u8>>,
    /// XMP data as a text chunk of any kind.
    xmp: Option<Vec<u8>>,
}

pub(super) fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    let notes = notes(bytes)?;
    let exif = match (&notes.exif, &notes.profile) {
        (Some(exif), _) => Some(exif.clone()),
        (None, Some(profile)) => Some(unhex(profile)?),
        (None, None) => None,
    };
    let exif = exif.filter(|exif| !exif.is_empty());
    let tags = exif.as_deref().map(|exif| Tags::read(exif).ok_or("its EXIF data cannot be read")).transpose()?;
    let orientation = Orientation::of(tags.as_ref(), notes.xmp.as_deref());
    Ok(Decoded { pixels: pixels(bytes, &notes, limits)?, orientation })
}

/// Goes through all chunks to the end, with their checksums.
fn notes(bytes: &[u8]) -> Result<Notes, String> {
    let mut notes = Notes::default();
    let mut at = 8;
    loop {
        let head = bytes.get(at..at + 8).ok_or(TRUNCATED)?;
        let (length, name) = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize, &head[4..8]);
        let end = at.checked_add(8).and_then(|start| start.checked_add(length)).ok_or(TRUNCATED)?;
        let checksum = bytes.get(end..end.saturating_add(4)).ok_or(TRUNCATED)?;
        let mut sum = flate2::Crc::new();
        sum.update(&bytes[at + 4..end]);
        if sum.sum().to_be_bytes() != checksum {
            return Err(format!("the checksum of its `{}` is wrong; fetch it again", name.escape_ascii()));
        }
        let data = &bytes[at + 8..end];
        at = end + 4;
        match name {
            b"IEND" => return Ok(notes),
            b"PLTE" if !data.len().is_multiple_of(3) || data.is_empty() || data.len() > 768 => {
                return Err(format!("its palette has {} bytes; it takes 3 for each of 1 to 256 colours", data.len()));
            }
            b"PLTE" => notes.palette = Some(data.to_vec()),
            b"eXIf" => notes.exif = Some(without_prefix(data)),
            b"tEXt" | b"zTXt" | b"iTXt" => text(name, data, &mut notes),
            _ => {}
        }
    }
}

/// EXIF data without the name that JPEG puts before it.
fn without_prefix(data: &[u8]) -> Vec<u8> {
    let mut data = data;
    while let Some(rest) = data.strip_prefix(b"Exif\0\0") {
        data = rest;
    }
    data.to_vec()
}

/// Notes a text chunk that says the way up.
fn text(kind: &[u8], data: &[u8], notes: &mut Notes) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (name, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if ![&b"XML:com.adobe.xmp"[..], b"Raw profile type exif", b"exif"].contains(&name) {
        return;
    }
    let unpacked = |packed: &[u8]| {
        let mut text = Vec::new();
        // Of a broken or endless text counts what there is.
        let _ = ZlibDecoder::new(packed).take(LARGEST_TEXT).read_to_end(&mut text);
        text
    };
    let text = match (kind, rest) {
        (b"tEXt", text) => text.to_vec(),
        (b"zTXt", [0, packed @ ..]) => unpacked(packed),
        (b"iTXt", [packed, 0, rest @ ..]) => {
            // Language and translated name come first.
            let Some(value) = rest.splitn(3, |byte| *byte == 0).nth(2) else { return };
            if *packed == 0 { value.to_vec() } else { unpacked(value) }
        }
        _ => return,
    };
    match name {
        b"XML:com.adobe.xmp" => notes.xmp = Some(text),
        b"exif" if kind == b"tEXt" => notes.exif = Some(without_prefix(&text)),
        b"Raw profile type exif" => notes.profile = Some(text),
        _ => {}
    }
}

/// The bytes of hexadecimal text from its fourth line on.
fn unhex(profile: &[u8]) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = profile
        .split(|byte| *byte == b'\n')
        .skip(3)
        .flatten()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(*byte).to_digit(16).map(|digit| digit as u8))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2)).ok_or("its EXIF profile is not hexadecimal")?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    Ok(without_prefix(&bytes))
}

fn pixels(bytes: &[u8], notes: &Notes, limits: PictureLimits) -> Result<Pixels, String> {
    let failed = |error: DecodingError| match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
        DecodingError::Format(error) if error.to_string().contains("enough data") => TRUNCATED.to_owned(),
        error => format!("it is not a sound PNG: {error}"),
    };
    let mut options = DecodeOptions::default();
    options.set_ignore_checksums(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    options.set_skip_ancillary_crc_failures(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_transformations(Transformations::IDENTITY);
    let info = decoder.read_header_info().map_err(failed)?;
    let (width, height, colour, depth) = (info.width, info.height, info.color_type, info.bit_depth);
    limits.check(height.into(), width.into())?;
    decoder.set_limits(Limits { bytes: usize::try_from(limits.pixels * 16).unwrap_or(usize::MAX) });
    let mut reader = decoder.read_info().map_err(failed)?;
    let length = reader.output_buffer_size().ok_or("it is too large")?;
    let mut packed = vec![0; length];
    let frame = reader.next_frame(&mut packed).map_err(failed)?;
    if (frame.width, frame.height) != (width, height) {
        return Err("its first picture is smaller than the whole".into());
    }
    let rows = packed.chunks_exact(frame.line_size).take(height as usize);
    if depth == BitDepth::Eight || depth == BitDepth::Sixteen {
        let size = colour.samples() * if depth == BitDepth::Sixteen { 2 } else { 1 };
        let palette = palette(colour, notes)?;
        let pieces = rows.flat_map(|row| row.chunks_exact(size)).take(width as usize * height as usize);
        return Pixels::rgb(width, height, pieces, |piece| match (colour, depth) {
            (ColorType::Indexed, _) => palette[usize::from(piece[0])],
            // 16 bits are cut to the largest of 8, as Pillow converts its mode I;16.
            (ColorType::Grayscale, BitDepth::Sixteen) => [if piece[0] == 0 { piece[1] } else { 255 }; 3],
            (ColorType::Grayscale | ColorType::GrayscaleAlpha, _) => [piece[0]; 3],
            (_, BitDepth::Sixteen) => [piece[0], piece[2], piece[4]],
            _ => [piece[0], piece[1], piece[2]],
        });
    }
    // Several pixels a byte, from its highest bits.
    let bits = depth as u8;
    let largest = (1 << bits) - 1;
    let values: Vec<u8> = rows
        .flat_map(|row| {
            let value = move |at: usize| {
                let start = at * usize::from(bits);
                row[start / 8] >> (8 - bits - (start % 8) as u8) & largest
            };
            (0..width as usize).map(value)
        })
        .collect();
    let palette = palette(colour, notes)?;
    Pixels::rgb(width, height, values.chunks_exact(1), |piece| match colour {
        ColorType::Indexed => palette[usize::from(piece[0])],
        _ => [piece[0] * (255 / largest); 3],
    })
}

/// The colours of a picture with a palette; those that it does not name are black, as in Pillow.
fn palette(colour: ColorType, notes: &Notes) -> Result<[[u8; 3]; 256], String> {
    match &notes.palette {
        Some(palette) => Ok(super::gif::colours(palette)),
        None if colour == ColorType::Indexed => Err("its palette is missing".into()),
        None => Ok(super::gif::colours(&[])),
    }
}
