//! The method obeys the laws of PEFT methods.

use s3t_new_plugin as _;
use serde_json::json;

#[test]
fn the_method_obeys_the_laws() {
    s3t_testkit::check_peft_method(&json!({"type": "new-plugin"}));
}
