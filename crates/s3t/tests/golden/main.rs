//! Models and PEFT methods against Python: the golden files in this folder, and those in the folder `golden` of each plugin, which
//! `xtask/golden/make.py` makes with `transformers` and `peft`. Every linked family is among them.

mod classes;
mod refusals;

use std::path::{Path, PathBuf};

use s3t_testkit::golden::{folders, model_type};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// `model digest` a line: the digests that these models had when stores were first made with them. Stages are keyed by them.
const DIGESTS: &str = include_str!("base-digests.txt");

/// The folders of all models.
fn models() -> Vec<PathBuf> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let of_plugins = folders(&plugins).into_iter().map(|plugin| plugin.join("golden"));
    of_plugins.chain([root()]).flat_map(|root| folders(&root)).collect()
}

/// The models with adapters.
fn adapted() -> Vec<PathBuf> {
    models().into_iter().filter(|model| model.join("adapters").is_dir()).collect()
}

#[test]
fn every_linked_family_has_a_model_with_a_head_and_adapters() {
    for family in s3t::models::families() {
        let found = adapted().iter().any(|model| model_type(model) == family.model_type);
        assert!(found, "`{}` has no golden files with adapters; see xtask/golden/make.py", family.model_type);
    }
}

#[test]
fn tokens_hidden_states_and_outputs_agree_with_transformers() {
    models().iter().for_each(|model| s3t_testkit::check_golden_model(model));
}

#[test]
fn adapters_agree_with_peft_and_with_references() {
    adapted().iter().for_each(|model| s3t_testkit::check_golden_adapters(model));
}

#[test]
fn every_family_obeys_the_laws() {
    for family in s3t::models::families() {
        let model = models().into_iter().find(|model| model_type(model) == family.model_type);
        s3t_testkit::check_model_family(&model.expect("every family has golden files"));
    }
    // The bundled model has real sizes, so that the fast paths of kernels are taken.
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist");
    let backbone = s3t::models::load(&bundled, s3t::models::LoadOptions::default(), &s3t::models::Device::flex());
    s3t_testkit::check_blocks(&backbone.unwrap(), &s3t_testkit::AsWritten);
}

#[test]
fn digests_of_models_are_those_that_stores_were_made_with() {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    for line in DIGESTS.lines() {
        let (name, expected) = line.split_once(' ').unwrap();
        let folder = models().into_iter().chain([bundled.join(name)]).find(|folder| folder.ends_with(name)).unwrap();
        let model = s3t::models::load(&folder, s3t::models::LoadOptions::default(), &s3t::models::Device::flex());
        assert_eq!(model.unwrap().digest().to_string(), expected, "{name}");
    }
}
