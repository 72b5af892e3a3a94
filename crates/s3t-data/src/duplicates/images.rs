//! Images that look alike.

use std::collections::{BTreeMap, HashMap};

use image_hasher::{HashAlg, HasherConfig};
use s3t_core::{Payload, Record};

use super::content::content;
use super::union::Union;

/// Joins images by perceptual hash. Two hashes that differ in at most d bits agree in one of d + 1 pieces, so only those that
/// share a piece are compared. An image whose hash is that of a blank image, within d, is compared as it stands: the hash of a
/// page with a few words on it or of a dim photograph says of it no more than that it is even.
pub(super) fn similar_images(records: &[Record], distance: u32, union: &mut Union) {
    let hasher = HasherConfig::new().hash_size(8, 8).hash_alg(HashAlg::Mean).preproc_dct().to_hasher();
    let bits = |image: &image::DynamicImage| {
        let hash = hasher.hash_image(image);
        hash.as_bytes().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte))
    };
    let blank = |value| bits(&image::GrayImage::from_pixel(16, 16, image::Luma([value])).into());
    let blanks = [blank(0), blank(u8::MAX)];
    // Of those with one hash, or with one content where the hash says nothing, the first stands for all.
    let (mut hashes, mut plain) = (BTreeMap::<u64, usize>::new(), HashMap::new());
    for (index, record) in records.iter().enumerate() {
        let Payload::Image { width, height, channels, pixels } = &record.payload else { continue };
        let (width, height) = (*width, *height);
        let image = match channels {
            1 => image::GrayImage::from_raw(width, height, pixels.clone()).map(image::DynamicImage::from),
            3 => image::RgbImage::from_raw(width, height, pixels.clone()).map(image::DynamicImage::from),
            _ => None,
        };
        let hash = image.map(|image| bits(&image));
        let says = hash.filter(|hash| blanks.iter().all(|blank| (hash ^ blank).count_ones() > distance));
        let first = match says {
            Some(hash) => *hashes.entry(hash).or_insert(index),
            None => *plain.entry(content(record)).or_insert(index),
        };
        union.join(index, first);
    }
    let pieces = distance + 1;
    let mut buckets: HashMap<(u32, u64), Vec<u64>> = HashMap::new();
    for bits in hashes.keys() {
        for piece in 0..pieces {
            let (start, end) = (piece * 64 / pieces, (piece + 1) * 64 / pieces);
            let of_piece = (bits >> start) & (u64::MAX >> (64 - (end - start)));
            buckets.entry((piece, of_piece)).or_default().push(*bits);
        }
    }
    for bucket in buckets.values() {
        for (position, one) in bucket.iter().enumerate() {
            for other in &bucket[position + 1..] {
                if (one ^ other).count_ones() <= distance {
                    union.join(hashes[one], hashes[other]);
                }
            }
        }
    }
}
