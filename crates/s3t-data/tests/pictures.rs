//! Picture files against Pillow and the image processor of `transformers`: small files of every kind, made by
//! `xtask/golden/pictures.py` with what Python reads in them.

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
            Err(problem) if problem.contains(named) => println!("{}: {problem}", case.file),
            Err(problem) => wrong.push(format!("{} ({}): {problem}", case.file, case.kind)),
            Ok(_) => wrong.push(format!("{} ({}) is read; Pillow: {pillow}", case.file, case.kind)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 60, "{count} cases");
}
