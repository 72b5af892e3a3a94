//! Every registered PEFT method inherits every law. A method without a row here fails the test.

use s3t::core::PluginKind;
use s3t::core::registry::{duplicate_plugins, plugins};
use serde_json::json;

/// One row a method: its tables with fields small enough for the tiny model.
fn rows() -> Vec<serde_json::Value> {
    vec![
        json!({"type": "lora", "rank": 2, "alpha": 4.0}),
        json!({"type": "lora", "rank": 1, "alpha": 2.0, "targets": ["query", "key", "value", "output", "up", "down"]}),
    ]
}

#[test]
fn every_method_has_a_row_and_obeys_the_laws() {
    let methods = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::PeftMethod);
    let names: Vec<&str> = methods.map(s3t::core::PluginInfo::name).collect();
    assert_eq!(names, ["lora"], "the expected set of methods");
    for name in names {
        assert!(rows().iter().any(|row| row["type"] == name), "`{name}` has no row");
    }
    rows().iter().for_each(s3t_testkit::check_peft_method);
}

#[test]
fn no_two_plugins_share_a_name() {
    assert_eq!(duplicate_plugins(), []);
}

/// The same small training on the older CPU backend answers the same within 1e-4.
#[cfg(feature = "ndarray")]
#[test]
fn ndarray_answers_as_flex_does() {
    use s3t::core::StoreSecret;
    use s3t::prelude::*;

    let folder = tempfile::tempdir().unwrap();
    s3t_testkit::write_tiny_model(&folder.path().join("model"), 4).unwrap();
    let answers = |device: &str| {
        let mut pipeline = s3t_testkit::tiny_pipeline(&folder.path().join("model"), &folder.path().join(device));
        pipeline.device = device.parse().unwrap();
        pipeline.training.seed = 1;
        let records = s3t_testkit::toy_records(40, 0, 1);
        let mut system = System::create(pipeline, &records, Some(StoreSecret::from_bytes([1; 32]))).unwrap();
        system.train(&Quiet).unwrap();
        system.predict(&s3t_testkit::toy_records(30, 0, 2)).unwrap()
    };
    for (flex, ndarray) in answers("flex").iter().zip(answers("ndarray")) {
        for (one, other) in flex.scores.iter().zip(ndarray.scores) {
            assert!((one - other).abs() < 1e-4, "{}: {one} and {other}", flex.id);
        }
    }
}
