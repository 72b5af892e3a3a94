//! The choice of members obeys the laws of choices of members.

use s3t_new_plugin as _;
use serde_json::json;

#[test]
fn the_choice_of_members_obeys_the_laws() {
    s3t_testkit::check_members(&json!({"type": "new-plugin"}));
}
