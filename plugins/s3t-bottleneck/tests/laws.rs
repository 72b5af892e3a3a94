//! Bottleneck adapters obey the laws of the test kit.

// Linking the crate registers its methods.
use s3t_bottleneck as _;
use serde_json::json;

#[test]
fn the_methods_obey_the_laws() {
    let tables =
        [json!({"type": "bottleneck", "size": 3}), json!({"type": "bottleneck", "size": 2, "placement": "pfeiffer"})];
    tables.iter().for_each(s3t_testkit::check_peft_method);
}
