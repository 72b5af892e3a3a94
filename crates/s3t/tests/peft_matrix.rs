//! Every registered PEFT method inherits every law, with its fields as they come. Each plugin's own tests have other fields.

use s3t::core::PluginKind;
use s3t::core::registry::{check_names, plugins};
use serde_json::json;

#[test]
fn every_method_obeys_the_laws_as_it_comes() {
    let methods = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::PeftMethod);
    let methods: Vec<_> = methods.collect();
    assert!(methods.iter().any(|method| method.name() == "lora"), "the plugins are linked");
    for method in methods {
        let mut table = json!({ "type": method.name() });
        // Sizes that the tiny model has no room for are made small.
        for field in method.fields().into_iter().filter(|field| field.default.as_u64().is_some_and(|size| size > 4)) {
            table[field.name] = json!(2);
        }
        s3t_testkit::check_peft_method(&table);
    }
}

#[test]
fn no_two_plugins_share_a_name() {
    assert_eq!(check_names(), Ok(()));
}

/// The same stages, trained on the older CPU backend, answer the same within 1e-4. The backend is part of a stage's lineage
/// and so of its seed; here both train for one lineage, which only a replaced trainer can do.
#[test]
fn ndarray_answers_as_flex_does() {
    use std::sync::Arc;

    use s3t::core::StoreSecret;
    use s3t::prelude::*;
    use s3t::train::StageTrainer;

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    s3t_testkit::write_tiny_model(&model, 4).unwrap();
    let answers = |trained_on: &str| {
        let mut pipeline = s3t_testkit::tiny_pipeline(&model, &folder.path().join(trained_on));
        pipeline.training.seed = 1;
        let records = s3t_testkit::toy_records(40, 0, 1);
        let system = System::create(pipeline, &records, Some(StoreSecret::from_bytes([1; 32]))).unwrap();
        let device = trained_on.parse::<s3t::backends::DeviceSpec>().unwrap().open().unwrap();
        let backbone = s3t::models::load(&model, s3t::models::LoadOptions::default(), &device).unwrap();
        let system = system.with_builder(Arc::new(StageTrainer::new(backbone, device, 1 << 20)));
        system.train(&Quiet).unwrap();
        system.predict(&s3t_testkit::toy_records(30, 0, 2)).unwrap()
    };
    let (flex, ndarray) = (answers("flex"), answers("ndarray"));
    assert_eq!(flex.len(), 30);
    for (flex, ndarray) in flex.iter().zip(ndarray) {
        for (one, other) in flex.scores.iter().zip(ndarray.scores) {
            assert!((one - other).abs() < 1e-4, "{}: {one} and {other}", flex.id);
        }
    }
}
