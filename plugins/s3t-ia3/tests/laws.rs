//! IA3 obeys the laws of the test kit.

// Linking the crate registers its methods.
use s3t_ia3 as _;
use serde_json::json;

#[test]
fn the_methods_obey_the_laws() {
    let tables =
        [json!({"type": "ia3"}), json!({"type": "ia3", "targets": ["query", "output"], "feed_forward": ["up"]})];
    tables.iter().for_each(s3t_testkit::check_peft_method);
}
