//! The strategy obeys the laws of sequence strategies.

use s3t_new_plugin as _;
use serde_json::json;

#[test]
fn the_strategy_obeys_the_laws() {
    // Whether the first L sequences are diverse, and whether every budget up to L! works.
    let (diverse, any_budget) = (false, false);
    s3t_testkit::check_sequence_strategy(&json!({"type": "new-plugin"}), diverse, any_budget);
}
