//! Picture files against Pillow and the image processor of `transformers`: small files of every kind, made by
//! `xtask/golden/pictures.py` with what Python reads in them.

#![expect(clippy::print_stdout, reason = "what a test measured is shown")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use s3t_core::picture::PictureSteps;
use s3t_core::{Payload, PictureInput};
use s3t_data::read_image_question;
use serde::Deserialize;

/// The largest difference to Pillow, in steps of 255, that docs/guide/hugging-face.md promises.
const BOUND: u8 = 1;

#[derive(Deserialize)]
struct Case {
    file: String,
    kind: String,
    channels: Option<u8>,
    steps: Option<PictureSteps>,
    #[serde(default)]
    height: u32,
    #[serde(default)]
    width: u32,
    /// Pillow's opinion of a file that is refused.
    refused: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-pictures")
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(root().join("cases.json")).unwrap()).unwrap()
}

fn read(case: &Case) -> Result<Payload, String> {
    let input = case.steps.clone().map(|steps| PictureInput {
        channels: case.channels.unwrap_or(3),
        height: case.height,
        width: case.width,
        steps,
    });
    read_image_question(&root().join(&case.file), input.as_ref())
}

#[test]
fn pictures_are_those_of_pillow() {
    let expected = std::fs::read(root().join("expected.bin")).unwrap();
    let mut rest = &expected[..];
    let mut largest: BTreeMap<String, (u8, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.refused.is_none()) {
        let channels = case.channels.unwrap_or(3);
        let (values, behind) = rest.split_at(case.height as usize * case.width as usize * usize::from(channels));
        rest = behind;
        match read(case) {
            Ok(Payload::Image { width, height, channels: found, pixels }) => {
                if (height, width, found) != (case.height, case.width, channels) {
                    wrong.push(format!("{}: {height}x{width}x{found}", case.file));
                    continue;
                }
                let difference = pixels.iter().zip(values).map(|(one, other)| one.abs_diff(*other)).max().unwrap();
                let of_kind = largest.entry(case.kind.clone()).or_default();
                *of_kind = (of_kind.0.max(difference), of_kind.1 + 1);
                if difference > BOUND {
                    wrong.push(format!("{}: {difference} steps", case.file));
                }
            }
            Ok(other) => wrong.push(format!("{}: {}", case.file, other.describe())),
            Err(problem) => wrong.push(format!("{}: {problem}", case.file)),
        }
    }
    assert!(rest.is_empty(), "{} bytes of expected.bin belong to no case", rest.len());
    for (kind, (difference, cases)) in &largest {
        println!("{kind}: {cases} cases, largest difference {difference}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Every kind was looked at: a list that lost its lines would pass above.
    assert!(largest.len() >= 50 && largest.values().map(|(_, cases)| cases).sum::<usize>() >= 200, "{largest:?}");
}

#[test]
fn what_is_not_whole_is_refused() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases() {
        let Some(pillow) = &case.refused else { continue };
        count += 1;
        let named = match case.kind.as_str() {
            "truncated" => "truncated",
            _ => "cannot read the image",
        };
        match read(&case) {
            Err(problem) if problem.contains(named) => {}
            Err(problem) => wrong.push(format!("{} ({}): {problem}", case.file, case.kind)),
            Ok(_) => wrong.push(format!("{} ({}) is read; Pillow: {pillow}", case.file, case.kind)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 60, "{count} cases");
}

/// A generator of numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// A file with some bytes changed, cut or copied.
fn mutated(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const VALUES: [u8; 6] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF];
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(5) {
        // The heads of files decide most.
        let end = if numbers.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
        let at = numbers.below(end);
        match numbers.below(6) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            2 | 3 if at < bytes.len() => bytes[at] = VALUES[numbers.below(VALUES.len())],
            4 => drop(bytes.drain(at..(at + numbers.below(9)).min(bytes.len()))),
            _ => {
                let copied = bytes[at..(at + numbers.below(9)).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, copied));
            }
        }
    }
    if bytes.starts_with(b"\x89PNG") {
        sound_checksums(&mut bytes);
    }
    bytes
}

/// Makes the checksums of a PNG right, so that what is behind them is read.
fn sound_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + length).filter(|end| end + 4 <= bytes.len()) else { break };
        let mut sum = flate2::Crc::new();
        sum.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.sum().to_be_bytes());
        at = end + 4;
    }
}

#[test]
fn no_bytes_make_a_reader_of_pictures_panic() {
    let rounds: u64 = std::env::var("S3T_PICTURE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    let (mut read, mut refused, mut gave_up) = (0, 0, 0);
    let mut slowest = (std::time::Duration::ZERO, String::new());
    for case in cases() {
        let bytes = std::fs::read(root().join(&case.file)).unwrap();
        for round in 0..rounds {
            let bytes = mutated(&bytes, &mut Numbers(round * 1_000_003 + bytes.len() as u64));
            std::fs::write(&path, &bytes).unwrap();
            let start = std::time::Instant::now();
            match std::panic::catch_unwind(|| read_image_question(&path, None)) {
                Ok(Ok(_)) => read += 1,
                Ok(Err(problem)) if problem.contains("its decoder gave up") => gave_up += 1,
                Ok(Err(_)) => refused += 1,
                Err(panic) => panic!("{}, round {round}: a panic got through: {panic:?}", case.file),
            }
            slowest = slowest.max((start.elapsed(), format!("{} round {round}", case.file)));
        }
    }
    println!("{read} read, {refused} refused, {gave_up} of them by a decoder that gave up; slowest {slowest:?}");
    assert!(read > 0 && refused > 0);
    assert!(slowest.0.as_secs() < 10, "{slowest:?}");
}
