//! JPEG, by a C library of the family of Pillow's: its integer transform and its upsampling give the same bits.
//!
//! The library reports what is wrong by unwinding, so that a program built with `panic = "abort"` must not read pictures that it
//! does not trust. A damaged file whose values overflow gives what Pillow gives without vector instructions.

use std::cell::Cell;
use std::io::{BufRead, Read};
use std::rc::Rc;

use mozjpeg::{ColorSpace, Decompress};

use super::orientation::Orientation;
use super::tags::Tags;
use super::{Decoded, PictureLimits, Pixels, TRUNCATED};

/// The most scans of a progressive picture: each goes through all of it.
const MOST_SCANS: usize = 256;

/// The header, which stands before the pixels.
struct Head {
    width: u32,
    height: u32,
    layers: u8,
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
}

pub(super) fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Decoded, String> {
    let head = head(bytes)?;
    limits.check(head.height.into(), head.width.into())?;
    let pixels = pixels(bytes, &head)?;
    let exif = head.exif.as_deref().and_then(Tags::read);
    Ok(Decoded { pixels, orientation: Orientation::of(exif.as_ref(), head.xmp.as_deref()) })
}

/// Goes through the segments up to the end of the file.
fn head(bytes: &[u8]) -> Result<Head, String> {
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let mut head = Head { width: 0, height: 0, layers: 0, exif: None, xmp: None };
    let mut scans = 0;
    let mut at = 2;
    loop {
        // Behind a scan stand its coded bytes, in which a marker is none of these.
        while bytes.get(at).is_some_and(|byte| *byte != 0xFF)
            || bytes.get(at + 1).is_some_and(|marker| matches!(marker, 0x00 | 0x01 | 0xD0..=0xD7 | 0xFF))
        {
            at += 1;
        }
        let marker = *bytes.get(at + 1).ok_or(TRUNCATED)?;
        if marker == 0xD9 {
            break;
        }
        let length = bytes.get(at + 2..at + 4).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let length = length.ok_or(TRUNCATED)?.max(2);
        let segment = bytes.get(at + 4..at + 2 + length).ok_or(TRUNCATED)?;
        at += 2 + length;
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF if scans == 0 => {
                let [bits, high, low, wide, narrow, layers, ..] = *segment else { return Err(TRUNCATED.into()) };
                if bits != 8 {
                    return Err(format!("it is a JPEG of {bits} bits a sample; 8 are supported"));
                }
                (head.height, head.width) =
                    (u16::from_be_bytes([high, low]).into(), u16::from_be_bytes([wide, narrow]).into());
                head.layers = layers;
            }
            0xDA => {
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(format!("it has more than {MOST_SCANS} scans"));
                }
            }
            0xE1 if scans == 0 && segment.starts_with(b"Exif\0\0") => {
                head.exif.get_or_insert_default().extend_from_slice(&segment[6..]);
            }
            0xE1 if scans == 0 && segment.starts_with(XMP) => head.xmp = Some(segment[XMP.len()..].to_vec()),
            _ => {}
        }
    }
    match head.layers {
        0 => Err("it is a JPEG without a picture".into()),
        1 | 3 | 4 => Ok(head),
        layers => Err(format!("it is a JPEG with {layers} layers; 1, 3 or 4 are supported")),
    }
}

fn pixels(bytes: &[u8], head: &Head) -> Result<Pixels, String> {
    let ended = Rc::new(Cell::new(false));
    let reader = Watched { rest: bytes, ended: Rc::clone(&ended) };
    let failed = |error: std::io::Error| format!("it is not a sound JPEG: {error}");
    let decoder = Decompress::builder().from_reader(reader).map_err(failed)?;
    if (decoder.width(), decoder.height()) != (head.width as usize, head.height as usize) {
        return Err("it is a JPEG with two sizes".into());
    }
    let space = match head.layers {
        1 => ColorSpace::JCS_GRAYSCALE,
        3 => ColorSpace::JCS_RGB,
        _ => ColorSpace::JCS_CMYK,
    };
    let mut started = decoder.to_colorspace(space).map_err(failed)?;
    let values: Vec<u8> = started.read_scanlines().map_err(failed)?;
    started.finish().map_err(failed)?;
    if ended.get() {
        return Err(TRUNCATED.into());
    }
    let pieces = values.chunks_exact(usize::from(head.layers));
    Pixels::rgb(head.width, head.height, pieces, |piece| match *piece {
        [grey] => [grey; 3],
        [red, green, blue] => [red, green, blue],
        // Files hold the inverse, after Adobe.
        _ => rgb_of_cmyk(piece.iter().map(|value| 255 - value)),
    })
}

/// RGB of CMYK, as Pillow converts it.
pub(super) fn rgb_of_cmyk(inks: impl Iterator<Item = u8>) -> [u8; 3] {
    let mut all = [0_u32; 4];
    all.iter_mut().zip(inks).for_each(|(ink, value)| *ink = value.into());
    let light = 255 - all[3];
    let colour = |ink: u32| {
        let product = ink * light + 128;
        light.saturating_sub(((product >> 8) + product) >> 8) as u8
    };
    [colour(all[0]), colour(all[1]), colour(all[2])]
}

/// Bytes that note whether somebody asked for more of them than there are: the library makes up an end then.
struct Watched<'a> {
    rest: &'a [u8],
    ended: Rc<Cell<bool>>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ended.set(true);
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
    }
}
