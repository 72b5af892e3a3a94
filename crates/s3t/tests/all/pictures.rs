//! Answers to picture files against Python: `load_image` and `ViTImageProcessorPil` of `transformers` with the model behind
//! them, over tiny models and settings of the processor that `xtask/golden/pictures.py` made.

#![expect(clippy::print_stdout, reason = "what a test measured is shown")]

use std::path::{Path, PathBuf};

use s3t::core::{Record, RecordId, Target, Task};
use s3t::data::read_image_question;
use s3t::models::{Device, LoadOptions, head_outputs, load};
use s3t::train::StageModel;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    model: String,
    file: String,
    preprocessor: serde_json::Value,
    logits: Vec<f32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-pictures")
}

/// The logits of a model in a folder for a picture file.
fn logits(folder: &Path, file: &str) -> Result<Vec<f32>, String> {
    let device = Device::flex();
    let model = load(folder, LoadOptions::default(), &device).map_err(|error| error.to_string())?;
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../s3t-data/tests/golden-pictures");
    let payload = read_image_question(&pictures.join(file), model.image_input())?;
    let id = RecordId::new(file).unwrap();
    let record = Record { id, subject: None, target: Target::None, ordinal: 0, payload };
    let classes = model.classifier().map_or(0, head_outputs);
    let base = StageModel::base(&model, &device, Task::Classification { classes }).unwrap();
    let input = model.prepare(&record).map_err(|error| error.to_string())?;
    Ok(base.outputs(&model, &[&input]).remove(0))
}

/// A copy of a model with this processor, in this file.
fn copied(model: &str, file: &str, processor: &serde_json::Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(root().join(model).join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join(file), processor.to_string()).unwrap();
    folder
}

#[test]
fn answers_to_picture_files_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(root().join("cases.json")).unwrap()).unwrap();
    let (mut wrong, mut largest) = (Vec::new(), 0.0_f32);
    for case in &cases {
        let of_file = |file: &str, processor: &serde_json::Value| {
            let folder = copied(&case.model, file, processor);
            logits(folder.path(), &case.file)
        };
        let found = of_file("preprocessor_config.json", &case.preprocessor);
        let shared = of_file("processor_config.json", &serde_json::json!({ "image_processor": case.preprocessor }));
        assert_eq!(found, shared, "the section of processor_config.json");
        match found {
            Ok(found) => {
                assert_eq!(found.len(), case.logits.len());
                let difference =
                    found.iter().zip(&case.logits).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
                largest = largest.max(difference);
                if difference.is_nan() || difference >= 1e-4 {
                    wrong.push(format!("{} {}: {difference}: {}", case.model, case.file, case.preprocessor));
                }
            }
            Err(problem) => wrong.push(format!("{} {}: {problem}: {}", case.model, case.file, case.preprocessor)),
        }
    }
    println!("{} answers, largest difference {largest:e}", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 60, "{} cases", cases.len());
}

#[test]
fn pictures_that_do_not_come_out_at_the_size_of_the_model_are_refused() {
    for (processor, parts) in [
        (serde_json::json!({ "do_resize": false }), ["makes it 30x24", "takes 8x8"]),
        (serde_json::json!({ "size": { "shortest_edge": 8 } }), ["makes it 10x8", "takes 8x8"]),
        (serde_json::json!({ "size": { "max_height": 8, "max_width": 8 } }), ["makes it 8x6", "takes 8x8"]),
        (serde_json::json!({ "size": 9 }), ["`size` makes pictures of 9x9", "`image_size`"]),
    ] {
        let folder = copied("vit-3", "preprocessor_config.json", &processor);
        let problem = logits(folder.path(), "plain.png").expect_err(&processor.to_string());
        for part in parts {
            assert!(problem.contains(part), "`{part}` is not in: {problem}");
        }
    }
}
