//! The laws of model families catch planted mistakes.

use std::ops::Range;
use std::path::Path;

// Linking the crate registers its families.
use s3t_bert as _;
use s3t_models::{
    Backbone, Device, Embedding, EmbeddingSpec, Hidden, Input, LoadOptions, ModelFamily, PatchEmbedding, ReaderSpec,
    fields::FieldTable, load, model_family,
};
use s3t_peft::Adapters;
use s3t_testkit::{AsWritten, RunBlocks, check_blocks, check_model_family, write_tiny_model};

/// The message of a law that does not hold; `None` if all hold.
fn caught(check: impl FnOnce()) -> Option<String> {
    // Nothing that a law saw is used after it panicked.
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
}

fn model(blocks: usize, model_type: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path(), blocks).unwrap();
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, config.replace("\"vit\"", &format!("\"{model_type}\""))).unwrap();
    folder
}

fn tiny(blocks: usize) -> std::sync::Arc<Backbone> {
    load(model(blocks, "vit").path(), LoadOptions::default(), &Device::flex()).unwrap()
}

#[test]
fn a_sound_family_is_not_caught() {
    assert_eq!(caught(|| check_model_family(model(4, "vit").path())), None);
}

/// Finds adapters by a part of the block's name, as a search for `layer.1` finds `layer.10` too.
struct BySubstring;

impl RunBlocks for BySubstring {
    fn run(&self, backbone: &Backbone, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        let blocks = backbone.transformer_blocks()[range.clone()].iter().zip(range);
        blocks.fold(hidden, |hidden, (block, index)| {
            let name = index.to_string();
            let found = (0..=index).filter(|other| name.starts_with(&other.to_string()));
            block.forward(hidden, { found }.find_map(|other| adapters.get(other)))
        })
    }
}

#[test]
fn blocks_matched_by_substring_are_caught() {
    let backbone = tiny(11);
    assert_eq!(caught(|| check_blocks(&backbone, &AsWritten)), None);
    let message = caught(|| check_blocks(&backbone, &BySubstring)).unwrap();
    assert!(message.contains("block 10 changes with a scaling in block 1 only"), "{message}");
}

/// Lets attention see all rows, whatever their record's length is.
struct SeesPadding;

impl RunBlocks for SeesPadding {
    fn run(&self, backbone: &Backbone, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        let [batch, tokens, _] = hidden.states.dims();
        let Hidden { states, lengths } = hidden;
        let all = backbone.run(Hidden::new(states, vec![tokens; batch]), range, adapters);
        Hidden { states: all.states, lengths }
    }
}

#[test]
fn an_attention_that_sees_padding_is_caught() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../s3t/tests/golden/bert-model");
    let backbone = load(&folder, LoadOptions::default(), &Device::flex()).unwrap();
    assert_eq!(caught(|| check_blocks(&backbone, &AsWritten)), None);
    let message = caught(|| check_blocks(&backbone, &SeesPadding)).unwrap();
    assert!(message.contains("padding: its values reach a record"), "{message}");
}

/// A family like `vit` whose digest forgets the configuration.
static FORGETFUL: ModelFamily = ModelFamily {
    model_type: "forgetful",
    specify: |file| {
        let mut specification = (s3t_vit::VIT.specify)(file)?;
        specification.constants.clear();
        Ok(specification)
    },
    fields: FieldTable { family: "forgetful", ..s3t_vit::VIT.fields },
    documentation: "A mistake.",
    classes: s3t_vit::VIT.classes,
};

model_family!(FORGETFUL);

#[test]
fn a_digest_without_the_configuration_is_caught() {
    let message = caught(|| check_model_family(model(3, "forgetful").path())).unwrap();
    assert!(message.contains("digest: it is the same with another `"), "{message}");
}

/// A family like `vit` that takes any value of any field.
static CREDULOUS: ModelFamily = ModelFamily {
    model_type: "credulous",
    specify: s3t_vit::VIT.specify,
    fields: FieldTable { family: "credulous", version: None, ..s3t_vit::VIT.fields },
    documentation: "A mistake.",
    classes: s3t_vit::VIT.classes,
};

model_family!(CREDULOUS);

#[test]
fn a_table_that_lets_fields_of_tomorrow_pass_is_caught() {
    let message = caught(|| check_model_family(model(3, "credulous").path())).unwrap();
    assert!(message.contains("fields: one of a later version is not refused"), "{message}");
}

/// An embedding that puts something of each record into the next.
struct Mixing(PatchEmbedding);

impl Embedding for Mixing {
    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let Hidden { states, lengths } = self.0.embed(inputs, tokens);
        let mean = states.clone().mean_dim(0).expand(states.dims());
        Hidden { states: states + mean.mul_scalar(0.125), lengths }
    }
}

/// A family like `vit` with that embedding.
static MIXING: ModelFamily = ModelFamily {
    model_type: "mixing",
    specify: |file| {
        let mut specification = (s3t_vit::VIT.specify)(file)?;
        assert!(matches!(specification.reader, ReaderSpec::Pictures(_)));
        if let EmbeddingSpec::Patches(patches) = specification.embedding {
            let load = Box::new(|loader: &mut s3t_models::Loader<'_>| {
                Ok(Box::new(Mixing(PatchEmbedding::load(patches, loader)?)) as Box<dyn Embedding>)
            });
            specification.embedding = EmbeddingSpec::Own(load);
        }
        Ok(specification)
    },
    fields: FieldTable { family: "mixing", ..s3t_vit::VIT.fields },
    documentation: "A mistake.",
    classes: s3t_vit::VIT.classes,
};

model_family!(MIXING);

#[test]
fn records_that_are_mixed_are_caught() {
    let message = caught(|| check_model_family(model(3, "mixing").path())).unwrap();
    assert!(message.contains("independence: other records matter"), "{message}");
}
