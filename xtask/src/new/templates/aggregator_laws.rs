//! The aggregator obeys the laws of aggregators.

use s3t_new_plugin as _;
use serde_json::json;

#[test]
fn the_aggregator_obeys_the_laws() {
    s3t_testkit::check_aggregator(&json!({"type": "new-plugin"}));
}
