//! Stage keys are those that another program computes from the same lineages (`xtask/golden/lineages.py`).

use s3t_core::Lineage;
use s3t_core::canonical::canonical_json;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    key: String,
    seed: String,
    lineage: Lineage,
}

#[test]
fn keys_are_those_of_a_script() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("golden/lineage-keys.json")).unwrap();
    assert_eq!(golden.len(), 3);
    for Golden { key, seed, lineage } in golden {
        assert_eq!(lineage.key().to_string(), key, "{}", canonical_json(&lineage.recipe));
        let found: String = lineage.key().seed().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, seed);
    }
}
