//! docs/guide/model-fields.md is made from the tables in the code: `UPDATE_DOCS=1 cargo test -p s3t --test model_fields`.

use std::path::Path;

const HEAD: &str = "# Fields of model and adapter files

Every field of the files that come with a model or an adapter: which are honoured, which change nothing here, and at which values
one may be there although it is not honoured. Every other value is refused by name. This page is made from the tables in
the crates of the model families, `s3t-models` (`fields`) and `s3t-interchange` (`fields`) that the program checks files with.

A field that is in no table is one that the class of the family in Python does not know: it changes nothing there and is passed
over here. A file that a later version of the library wrote is the exception, as that version may give the field a meaning. Then it
is refused until a table knows it, or until you accept it by name: `accept_fields = [\"name\"]` in `[model]` of a pipeline, or
`--accept-field name` of `s3t predict --model`. A field that is accepted is passed over, whatever its value.

[The field sweep](../reproduction/field-sweep.md) holds these tables to the classes in Python. The fields of
`preprocessor_config.json` are in [the guide](hugging-face.md).
";

#[test]
fn the_page_of_fields_is_that_of_the_code() {
    let tables = [s3t::models::field_tables(), s3t::interchange::fields::tables()].concat();
    let section = |table: &s3t::models::fields::FieldTable| {
        format!("\n## `{}`: {}\n\nThe fields of {}.\n\n{}", table.file, table.family, table.class, table.markdown())
    };
    let page = format!("{HEAD}{}", tables.iter().map(section).collect::<String>());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/model-fields.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "run UPDATE_DOCS=1 cargo test -p s3t --test model_fields");
}

#[test]
fn no_table_has_a_mistake() {
    for table in [s3t::models::field_tables(), s3t::interchange::fields::tables()].concat() {
        assert_eq!(s3t::models::fields::mistakes(&table), [""; 0], "{} {}", table.file, table.family);
    }
}
