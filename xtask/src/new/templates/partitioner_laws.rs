//! The partitioner obeys the laws of partitioners.

use s3t_new_plugin as _;
use serde_json::json;

#[test]
fn the_partitioner_obeys_the_laws() {
    s3t_testkit::check_partitioner(&json!({"type": "new-plugin"}));
}
