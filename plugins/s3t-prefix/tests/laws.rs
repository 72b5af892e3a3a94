//! Prefix and deep prompt tuning obey the laws of the test kit.

// Linking the crate registers its methods.
use s3t_prefix as _;
use serde_json::json;

#[test]
fn the_methods_obey_the_laws() {
    let tables = [json!({"type": "prefix", "length": 2}), json!({"type": "prompt", "length": 3})];
    tables.iter().for_each(s3t_testkit::check_peft_method);
}
