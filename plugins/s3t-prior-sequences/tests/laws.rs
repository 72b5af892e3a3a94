//! The strategies obey the laws of sequence strategies, those of diversity and of any budget included where they promise them.

use s3t_prior_sequences as _;
use s3t_testkit::check_sequence_strategy;
use serde_json::json;

#[test]
fn the_strategies_obey_the_laws() {
    check_sequence_strategy(&json!({"type": "auto"}), false, true);
    check_sequence_strategy(&json!({"type": "bms"}), true, true);
    check_sequence_strategy(&json!({"type": "bms", "score": "depth", "t": 3}), true, true);
    check_sequence_strategy(&json!({"type": "conditional"}), false, true);
    check_sequence_strategy(&json!({"type": "greedy", "requests": 4}), false, true);
}
