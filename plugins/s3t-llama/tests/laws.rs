//! The golden files of the first families, in the tests of the facade, and the laws of the test kit.

use std::path::{Path, PathBuf};

// Linking the crate registers its families.
use s3t_llama as _;
use s3t_testkit::golden::{folders, model_type};

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/s3t/tests/golden");
    let own = |model: &PathBuf| ["llama"].contains(&model_type(model).as_str());
    folders(&root).into_iter().filter(own).collect()
}

#[test]
fn models_agree_with_transformers() {
    assert!(!models().is_empty());
    models().iter().for_each(|model| s3t_testkit::check_golden_model(model));
}

#[test]
fn families_obey_the_laws() {
    models().iter().for_each(|model| s3t_testkit::check_model_family(model));
}
