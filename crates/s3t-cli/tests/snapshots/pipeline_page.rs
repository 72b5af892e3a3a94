//! docs/guide/pipeline-fields.md: every key of a pipeline file. Sections that one type is read from are told by that type, plugins by
//! themselves, and the few keys that the reader takes one by one are written here and compared with what it knows.

use std::fmt::Write as _;

use s3t::core::registry::plugins;
use s3t::core::{Limits, PluginKind};
use s3t::data::{Duplicates, Source};
use s3t::engine::{GenerationSettings, Resources, RunSettings};
use s3t::eval::attack::AttackSettings;
use s3t::eval::compare::CompareSettings;
use s3t::train::TrainingConfig;
use s3t_server::ServerSettings;
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::workspace::{Workspace, repository};

const HEAD: &str = "\
# Every key of a pipeline file

What a pipeline file may say, section by section. `s3t init` writes a file with the keys that most people need, and `s3t plan` checks one
without training. A key that is not on this page is refused by name, with its line. Paths start from the file's folder, those of `executor`
from the folder that the command runs in. `model`, `data`, `partition`, `sequences`, `peft` and `training` say what a store is made from: another
value there means another store. `serving`, `executor`, `resources`, `run` and `server` may change at any time.

This page is made from the types that the program reads.
";

/// The keys of a section that the reader takes one by one: name, default, meaning.
type Keys = &'static [(&'static str, &'static str, &'static str)];

const TOP: Keys = &[
    (
        "device",
        "`\"flex\"`",
        "What computes: `flex` (this processor, with equal bits everywhere), `ndarray`, and `cuda`, `vulkan`, `wgpu` in a build with the feature.",
    ),
    (
        "seed",
        "`0`",
        "Changes every random number of training, and with `store.secret = \"from-seed\"` where records go.",
    ),
];
const MODEL: Keys = &[
    (
        "accept_fields",
        "`[]`",
        "Fields of the model's files that are unknown here and passed over all the same ([fields of model files](model-fields.md)).",
    ),
    ("max_tokens", "as many as the model has positions for", "Longer texts are cut, longer prompts refused."),
    ("name", "the folder's name", "The name by which exports call the base model."),
    ("path", "needed", "The folder of the base model, as Hugging Face has it."),
    (
        "weights",
        "`\"full\"`",
        "How frozen layers are kept: `full`, or rounded when they are loaded to `int8` or `nf4` (device `flex`).",
    ),
];
const STORE: Keys = &[
    ("encrypt", "`true`", "Records and stages are sealed under keys that a deletion destroys."),
    (
        "keys",
        "`STORE.keys`",
        "The folder of the keys: elsewhere, so that copies of the store are worth nothing without it.",
    ),
    ("path", "needed", "The folder of the store."),
    (
        "secret",
        "`\"random\"`",
        "Where the secret comes from that decides where records go: `random`, or `from-seed` for runs that somebody is to repeat.",
    ),
    (
        "wait_seconds",
        "`2.0`",
        "The most seconds that a command waits for the files that another process has in hand, 0 to 86400.",
    ),
];
const DATA: Keys = &[
    ("duplicates", "`{}`", "Records that are forgotten together: see below."),
    ("labels", "needed for classes", "The names of the classes, in the order of the head's outputs."),
    ("task", "`\"classification\"`", "`classification`, `multi-label`, `regression` or `causal-lm`."),
    ("train", "needed", "The records to train on: a source as below."),
    ("test", "none", "Held-out records: a source as below."),
];
const PARTITION: Keys = &[
    ("shards", "needed", "Parts of the records, each with models of its own, 1 to 1,000,000."),
    ("slices", "needed", "Parts of a shard, in the order in which a sequence sees them, 1 to 1,000,000."),
];
const SEQUENCES: Keys = &[
    (
        "blocks_per_slice",
        "as even as can be",
        "How many blocks of the model each slice trains, from the first slice of a sequence to the last: a list that adds up to all blocks.",
    ),
    ("budget", "needed", "Sequences of a shard, each another order of its slices, 1 to 1,000,000."),
    (
        "prior",
        "uniform",
        "How likely each slice is to be hit: a probability for each, or a CSV file with the columns `subject` and `probability`.",
    ),
];
const SERVING: Keys = &[
    ("aggregator", "`{ type = \"mean-logits\" }`", "How members' answers become one: a table with a `type` as below."),
    (
        "dead_shard",
        "`\"leave-out\"`",
        "What a shard without a live stage does: `leave-out`, or `base` to answer with the base model's own head.",
    ),
    ("generation", "`{}`", "Of models that continue texts: see below."),
    ("members", "`{ type = \"deepest\" }`", "Which live stages answer: a table with a `type` as below."),
    (
        "precision",
        "that of training",
        "`bf16` answers with products in bfloat16 where training was in single precision.",
    ),
];

/// The head of a table of keys.
const COLUMNS: &str = "| key | default | meaning |\n|---|---|---|\n";

fn row(out: &mut String, key: &str, default: &str, meaning: &str) {
    writeln!(out, "| `{key}` | {} | {} |", default.replace('|', "\\|"), meaning.replace('|', "\\|")).unwrap();
}

fn table(out: &mut String, heading: &str) {
    write!(out, "\n{heading}\n\n{COLUMNS}").unwrap();
}

fn by_hand(out: &mut String, heading: &str, keys: Keys) {
    table(out, heading);
    for (key, default, meaning) in keys {
        row(out, key, default, meaning);
    }
}

/// A default as a pipeline file writes it.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        other => format!("`{}`", other.to_string().replace("\",\"", "\", \"")),
    }
}

/// A docstring in a line, without what comes behind its first heading or example.
fn line(text: &str) -> String {
    let end = text.find("\n#").or_else(|| text.find("\n```")).unwrap_or(text.len());
    text[..end].split_whitespace().collect::<Vec<_>>().join(" ").replace("[`", "`").replace("`]", "`")
}

/// The schema that a reference in `root` means.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let inner = schema.get("anyOf").and_then(|any| any.get(0)).unwrap_or(schema);
    match inner.get("$ref").and_then(Value::as_str) {
        Some(path) => root.pointer(path.trim_start_matches('#')).expect("a definition"),
        None => inner,
    }
}

/// The rows of an object's properties; tables inside it follow with their names before the keys.
fn properties(out: &mut String, root: &Value, schema: &Value, prefix: &str, defaults: &Value) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        if property.get("const").is_some() {
            continue;
        }
        let inner = resolved(root, property);
        let default = property.get("default").or_else(|| defaults.get(key));
        let default = match default {
            Some(default) => toml_of(default),
            None if required.contains(&key.as_str()) => "needed".to_owned(),
            None => "none".to_owned(),
        };
        let meaning = property.get("description").or_else(|| inner.get("description"));
        let mut meaning = line(meaning.and_then(Value::as_str).unwrap_or_default());
        let choices: Vec<String> = choices(inner).iter().map(|choice| format!("`\"{choice}\"`")).collect();
        if !choices.is_empty() && !meaning.contains('`') {
            write!(meaning, " One of {}.", choices.join(", ")).unwrap();
        }
        row(out, &format!("{prefix}{key}"), &default, &meaning);
        if inner.get("properties").is_some() {
            properties(out, root, inner, &format!("{prefix}{key}."), &Value::Null);
        } else if let Some(items) = property.get("items").map(|items| resolved(root, items)) {
            properties(out, root, items, &format!("{prefix}{key}[]."), &Value::Null);
        }
    }
}

/// The names that an enum takes.
fn choices(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let told = schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one.get("const")?.as_str());
    listed.chain(told).collect()
}

/// `unwritten` has the defaults that are left out of what is written.
fn of_type<T: JsonSchema + DeserializeOwned + Default + PartialEq>(out: &mut String, heading: &str, unwritten: &Value) {
    let given: T = serde_json::from_value(unwritten.clone()).expect("fields of the type");
    assert!(given == T::default(), "{heading}: {unwritten} is not the default");
    let schema = schema_for!(T).to_value();
    table(out, heading);
    properties(out, &schema, &schema, "", unwritten);
}

fn of_plugins(out: &mut String, kind: PluginKind) {
    for plugin in plugins().into_iter().filter(|plugin| plugin.kind() == kind) {
        write!(out, "\n**`type = \"{}\"`**: {}\n", plugin.name(), line(&plugin.documentation())).unwrap();
        let fields = plugin.fields();
        if fields.is_empty() {
            continue;
        }
        write!(out, "\n{COLUMNS}").unwrap();
        for field in fields {
            row(out, &field.name, &toml_of(&field.default), &line(&field.documentation));
        }
    }
}

fn sources(out: &mut String) {
    let schema = schema_for!(Source).to_value();
    out.push_str("\n### Sources of records\n\nThe tables `train` and `test`, by their `type`.\n");
    for source in schema["oneOf"].as_array().expect("kinds of sources") {
        let name = source["properties"]["type"]["const"].as_str().expect("a name");
        let fields = match source.get("$ref") {
            Some(_) => resolved(&schema, source).clone(),
            None => source.clone(),
        };
        let about = line(source["description"].as_str().unwrap_or_default());
        write!(out, "\n**`type = \"{name}\"`**: {about}\n\n{COLUMNS}").unwrap();
        properties(out, &schema, &fields, "", &Value::Null);
    }
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    by_hand(&mut out, "## Before all sections", TOP);
    by_hand(&mut out, "## `[model]`", MODEL);
    by_hand(&mut out, "## `[store]`", STORE);
    by_hand(&mut out, "## `[data]`", DATA);
    sources(&mut out);
    of_type::<Duplicates>(&mut out, "### `[data.duplicates]`", &json!({}));
    by_hand(&mut out, "## `[partition]`", PARTITION);
    of_plugins(&mut out, PluginKind::Partitioner);
    by_hand(&mut out, "## `[sequences]`", SEQUENCES);
    of_plugins(&mut out, PluginKind::SequenceStrategy);
    out.push_str("\n## `[peft]`\n");
    of_plugins(&mut out, PluginKind::PeftMethod);
    of_type::<TrainingConfig>(
        &mut out,
        "## `[training]`",
        &json!({ "accumulate": 1, "activations": "f32", "centroid": false, "precision": "f32" }),
    );
    by_hand(&mut out, "## `[serving]`", SERVING);
    out.push_str("\n### `serving.members`\n");
    of_plugins(&mut out, PluginKind::Members);
    out.push_str("\n### `serving.aggregator`\n");
    of_plugins(&mut out, PluginKind::Aggregator);
    of_type::<GenerationSettings>(&mut out, "### `[serving.generation]`", &json!({}));
    out.push_str("\n## `[executor]`\n\nWithout this section stages are trained in this process.\n");
    of_plugins(&mut out, PluginKind::Executor);
    of_type::<Resources>(&mut out, "## `[resources]`", &json!({}));
    of_type::<Limits>(&mut out, "## `[limits]`", &json!({}));
    of_type::<RunSettings>(&mut out, "## `[run]`", &json!({}));
    of_type::<ServerSettings>(&mut out, "## `[server]`", &json!({}));
    of_type::<AttackSettings>(&mut out, "## `[attack]`", &json!({}));
    of_type::<CompareSettings>(&mut out, "## `[compare]`", &json!({}));
    out
}

#[test]
fn the_page_of_pipeline_keys_is_that_of_the_code() {
    let (page, path) = (page(), repository().join("docs/guide/pipeline-fields.md"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "run UPDATE_DOCS=1 cargo test --workspace --test snapshots");
    assert!(!page.contains("|  |"), "a key has no meaning");
}

/// The reader names the keys that it knows when it meets one that it does not.
#[test]
fn the_keys_that_are_written_by_hand_are_those_that_the_reader_takes() {
    for (section, keys) in [("model", MODEL), ("store", STORE), ("data", DATA)] {
        let workspace = Workspace::new();
        workspace.edit("pipeline.toml", &format!("[{section}]"), &format!("[{section}]\nnothing = 1"));
        let told = workspace.run(&["plan", "pipeline.toml"]).stderr;
        let known = told.split_once("known: ").unwrap_or_else(|| panic!("{told}")).1;
        let known: Vec<&str> = known.split(';').next().unwrap().trim().split(", ").collect();
        assert_eq!(known, keys.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), "{section}");
    }
}
