//! The golden files of the family, which `xtask/golden/make.py` makes, and the laws of the test kit.

use std::path::{Path, PathBuf};

// Linking the crate registers its families.
use s3t_mistral as _;
use s3t_testkit::golden::folders;

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    folders(&root)
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
