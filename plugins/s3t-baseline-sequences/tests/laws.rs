//! The strategies obey the laws of sequence strategies, those of diversity and of any budget included where they promise them.

use s3t_baseline_sequences as _;
use s3t_testkit::check_sequence_strategy;
use serde_json::json;

#[test]
fn the_strategies_obey_the_laws() {
    check_sequence_strategy(&json!({"type": "all"}), false, false);
    check_sequence_strategy(&json!({"type": "random"}), false, true);
    check_sequence_strategy(&json!({"type": "sorted-cyclic"}), true, true);
}
