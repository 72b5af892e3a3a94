//! docs/api.schema.json is what the types say.
//!
//! `UPDATE_DOCS=1 cargo test -p s3t-api --test schema` writes it anew.

use std::path::Path;

use serde_json::Value;

#[test]
fn the_page_is_made_from_the_types() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.schema.json");
    let made = format!("{:#}\n", s3t_api::schema());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &made).unwrap();
    }
    let there = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        there == made,
        "docs/api.schema.json is out of date; UPDATE_DOCS=1 cargo test -p s3t-api --test schema writes it anew"
    );
}

#[test]
fn every_reference_of_the_schema_leads_to_a_definition() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let schema = s3t_api::schema();
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(schema.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}
