//! LoRA, rsLoRA and DoRA obey the laws of the test kit.

// Linking the crate registers its methods.
use s3t_lora as _;
use serde_json::json;

const ALL: [&str; 6] = ["query", "key", "value", "output", "up", "down"];

#[test]
fn the_methods_obey_the_laws() {
    let tables = [
        json!({"type": "lora", "rank": 2, "alpha": 4.0}),
        json!({"type": "lora", "rank": 1, "alpha": 2.0, "dropout": 0.2, "targets": ALL}),
        json!({"type": "rslora", "rank": 2, "alpha": 4.0, "targets": ALL}),
        json!({"type": "dora", "rank": 2, "alpha": 4.0}),
        json!({"type": "dora", "rank": 2, "alpha": 3.0, "dropout": 0.3, "targets": ALL}),
    ];
    tables.iter().for_each(s3t_testkit::check_peft_method);
}
