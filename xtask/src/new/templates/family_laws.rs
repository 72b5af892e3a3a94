//! The family obeys the laws of model families.

use std::path::Path;

use s3t_new_plugin as _;

/// First step: a small model of the family and what Python computes with it, in `golden/new-plugin`, made by a script beside it.
/// Until then the law says that there is no model to load.
#[test]
fn the_family_obeys_the_laws() {
    s3t_testkit::check_model_family(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/new-plugin"));
}
