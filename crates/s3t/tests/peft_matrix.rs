//! Every registered PEFT method inherits every law. A method without a row here fails the test.

use s3t::core::PluginKind;
use s3t::core::registry::{check_names, plugins};
use serde_json::json;

/// One row a method: its tables with fields small enough for the tiny model.
fn rows() -> Vec<serde_json::Value> {
    let sites = ["query", "key", "value", "output", "up", "down"];
    vec![
        json!({"type": "bottleneck", "size": 3}),
        json!({"type": "bottleneck", "size": 2, "placement": "pfeiffer"}),
        json!({"type": "dora", "rank": 2, "alpha": 4.0}),
        json!({"type": "dora", "rank": 2, "alpha": 3.0, "dropout": 0.3, "targets": sites}),
        json!({"type": "ia3"}),
        json!({"type": "ia3", "targets": ["query", "output"], "feed_forward": ["up"]}),
        json!({"type": "lora", "rank": 2, "alpha": 4.0}),
        json!({"type": "lora", "rank": 1, "alpha": 2.0, "dropout": 0.2, "targets": sites}),
        json!({"type": "prefix", "length": 2}),
        json!({"type": "prompt", "length": 3}),
        json!({"type": "rslora", "rank": 2, "alpha": 4.0, "targets": sites}),
    ]
}

#[test]
fn every_method_has_a_row_and_obeys_the_laws() {
    let methods = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::PeftMethod);
    let names: Vec<&str> = methods.map(s3t::core::PluginInfo::name).collect();
    let expected = ["bottleneck", "dora", "ia3", "lora", "prefix", "prompt", "rslora"];
    assert_eq!(names, expected, "the expected set of methods");
    for name in names {
        assert!(rows().iter().any(|row| row["type"] == name), "`{name}` has no row");
    }
    rows().iter().for_each(s3t_testkit::check_peft_method);
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
