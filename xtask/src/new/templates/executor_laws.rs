//! The executor obeys the laws of executors.

use s3t_new_plugin as _;
use serde_json::json;

#[test]
fn the_executor_obeys_the_laws() {
    s3t_testkit::check_executor(&json!({"type": "new-plugin"}));
}
