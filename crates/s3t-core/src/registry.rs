//! The plugins that are linked into a program: their names, fields, defaults and documentation.
//!
//! Traits are (de)serialised by `typetag`; this registry adds what a person needs: listings, and errors that name the
//! alternatives. A plugin's fields are documented once, by the docstrings of its struct.

use std::fmt;
use std::sync::OnceLock;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The kinds of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginKind {
    /// A [`crate::Partitioner`].
    Partitioner,
    /// A [`crate::SequenceStrategy`].
    SequenceStrategy,
    /// A PEFT method (trait in `s3t-peft`).
    PeftMethod,
    /// A choice of the live prefixes that answer ([`Members`](crate::members::Members)).
    #[serde(rename = "choice-of-members")]
    Members,
    /// A [`crate::Aggregator`].
    Aggregator,
    /// A family of base models (`ModelFamily` in `s3t-models`).
    ModelFamily,
    /// An executor (trait in `s3t-executor`).
    Executor,
    /// A method of unlearning to compare with (trait in `s3t-eval`).
    UnlearningMethod,
}

impl PluginKind {
    /// All kinds, in the order of a pipeline file.
    pub const ALL: [Self; 8] = [
        Self::ModelFamily,
        Self::Partitioner,
        Self::SequenceStrategy,
        Self::PeftMethod,
        Self::Members,
        Self::Aggregator,
        Self::Executor,
        Self::UnlearningMethod,
    ];
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partitioner => "partitioner",
            Self::SequenceStrategy => "sequence strategy",
            Self::PeftMethod => "peft method",
            Self::Members => "choice of members",
            Self::Aggregator => "aggregator",
            Self::ModelFamily => "model family",
            Self::Executor => "executor",
            Self::UnlearningMethod => "unlearning method",
        })
    }
}

/// One field of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldInfo {
    /// Its key in a pipeline file.
    pub name: String,
    /// The JSON types it takes: `integer`, `number`, `string`, `boolean`, `array`, `object`, `null`. Empty: any.
    pub types: Vec<String>,
    /// The default.
    pub default: Value,
    /// The meaning.
    pub documentation: String,
}

/// The registry's entry of one plugin. Made by [`plugin!`](crate::plugin).
#[derive(Debug)]
pub struct PluginInfo {
    kind: PluginKind,
    name: &'static str,
    package: &'static str,
    describe: fn() -> (String, Vec<FieldInfo>),
}

impl PluginInfo {
    /// The description of the plugin struct `T`, registered by the crate `package`.
    pub const fn of<T: JsonSchema + Serialize + Default>(
        kind: PluginKind,
        name: &'static str,
        package: &'static str,
    ) -> Self {
        Self { kind, name, package, describe: describe::<T> }
    }

    /// A plugin that is not read from a pipeline file: `describe` gives its documentation and its fields.
    pub const fn described(
        kind: PluginKind,
        name: &'static str,
        package: &'static str,
        describe: fn() -> (String, Vec<FieldInfo>),
    ) -> Self {
        Self { kind, name, package, describe }
    }

    /// Its kind.
    pub fn kind(&self) -> PluginKind {
        self.kind
    }

    /// Its name: the value of `type` in a pipeline file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The crate that registered it.
    pub fn package(&self) -> &'static str {
        self.package
    }

    /// The docstring of its struct, up to the first heading (the proof note).
    pub fn documentation(&self) -> String {
        (self.describe)().0
    }

    /// Its fields, sorted by name.
    pub fn fields(&self) -> Vec<FieldInfo> {
        (self.describe)().1
    }
}

inventory::collect!(PluginInfo);

/// Registers a plugin: its kind (a variant of [`PluginKind`]), its name and its struct.
///
/// The name must be the one given to `#[typetag::serde(name = "...")]`; the struct derives `Default`, `Serialize`,
/// `Deserialize` and `JsonSchema`, and its docstrings become its help.
#[macro_export]
macro_rules! plugin {
    ($kind:ident, $name:literal, $plugin:ty) => {
        $crate::reexport::inventory::submit! {
            $crate::PluginInfo::of::<$plugin>($crate::PluginKind::$kind, $name, env!("CARGO_PKG_NAME"))
        }
    };
}

/// All linked plugins, sorted by kind and name.
pub fn plugins() -> Vec<&'static PluginInfo> {
    let mut all: Vec<_> = inventory::iter::<PluginInfo>.into_iter().collect();
    all.sort_by_key(|plugin| (plugin.kind, plugin.name));
    all
}

/// Checks that no two linked plugins of one kind have one name. [`plugin_from_json`] checks it before it reads a table, so that
/// a program put together wrongly is refused at the first use of a plugin.
///
/// # Errors
///
/// [`PluginError`] naming the plugin and the crates that registered it.
pub fn check_names() -> Result<(), PluginError> {
    static CHECKED: OnceLock<Result<(), PluginError>> = OnceLock::new();
    CHECKED.get_or_init(|| check_names_of(&plugins())).clone()
}

/// [`check_names`] of plugins that are sorted by kind and name.
fn check_names_of(sorted: &[&PluginInfo]) -> Result<(), PluginError> {
    let same = |pair: &&[&PluginInfo]| (pair[0].kind, pair[0].name) == (pair[1].kind, pair[1].name);
    let Some(pair) = sorted.windows(2).find(same) else { return Ok(()) };
    let (kind, name, mut packages) = (pair[0].kind, pair[0].name, [pair[0].package, pair[1].package]);
    packages.sort_unstable();
    let message = format!(
        "two {kind} plugins are called `{name}`: of the crates {} and {}; link one of them only, or rename one",
        packages[0], packages[1]
    );
    Err(PluginError { key: "type".to_owned(), message })
}

/// The refusal of a plugin's table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    /// The key at fault inside the table, `type` if the type itself is.
    pub key: String,
    /// The problem, with the alternatives.
    pub message: String,
}

/// Reads a plugin from its table: `type` picks it, the other keys are its fields.
///
/// # Errors
///
/// [`PluginError`] naming the key, for a missing or unknown `type`, an unknown field, or a value of the wrong type; the refusal of
/// [`check_names`].
pub fn plugin_from_json<P: ?Sized>(kind: PluginKind, table: &Value) -> Result<Box<P>, PluginError>
where
    Box<P>: DeserializeOwned,
{
    check_names()?;
    let of_kind: Vec<_> = plugins().into_iter().filter(|plugin| plugin.kind == kind).collect();
    let names: Vec<&str> = of_kind.iter().map(|plugin| plugin.name).collect();
    let refuse = |key: &str, message: String| PluginError { key: key.to_owned(), message };
    let fields = table.as_object().ok_or_else(|| refuse("type", format!("a {kind} is a table with a `type`")))?;
    let name = match fields.get("type") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(refuse("type", format!("`type` is {other}; known: {}", names.join(", ")))),
        None => return Err(refuse("type", format!("the {kind} has no `type`; known: {}", names.join(", ")))),
    };
    let Some(plugin) = of_kind.iter().find(|plugin| plugin.name == name) else {
        return Err(refuse("type", unknown(&format!("{kind} `{name}`"), name, &names)));
    };
    check_fields(plugin, fields)?;
    serde_json::from_value(table.clone()).map_err(|error| refuse("type", format!("{kind} `{name}`: {error}")))
}

/// The most names that a message lists, and the longest that are compared with a misspelt one: comparing takes the product of
/// two lengths.
const MAX_LISTED: usize = 40;
const MAX_COMPARED: usize = 64;

/// The message for an unknown name: what it is, the known names, and the closest of them if the name is a misspelling of it: one
/// letter is another one, or two in a name of five or more. (Small letters for large ones are no other letters.) Of very many
/// names the first are listed.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let most = |other: &str| match name.chars().count().min(other.chars().count()) {
        0..3 => 0,
        3..5 => 1,
        _ => 2,
    };
    let short = |name: &str| name.len() <= MAX_COMPARED;
    let compared = known.iter().take(if short(name) { 1000 } else { 0 });
    let close = compared.filter(|other| short(other) && **other != name).min_by_key(|other| distance(other));
    let hint = match close {
        Some(other) if distance(other) <= most(other) => format!("; did you mean `{other}`?"),
        _ => String::new(),
    };
    let listed: Vec<String> = known.iter().take(MAX_LISTED).map(|name| crate::limits::shown(name)).collect();
    let more = match known.len() - listed.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let listed = if known.is_empty() { "none".to_owned() } else { listed.join(", ") };
    format!("unknown {what}; known: {listed}{more}{hint}")
}

/// Every linked plugin of a kind, each with its default fields, sorted by name.
///
/// ```
/// use s3t_core::registry::plugins_of;
/// use s3t_core::{PluginKind, SequenceStrategy};
///
/// let strategies = plugins_of::<dyn SequenceStrategy>(PluginKind::SequenceStrategy)?;
/// let names: Vec<&str> = strategies.iter().map(|strategy| strategy.typetag_name()).collect();
/// assert_eq!(names, ["cyclic", "single"]);
/// # Ok::<(), s3t_core::PluginError>(())
/// ```
///
/// # Errors
///
/// As [`plugin_from_json`].
pub fn plugins_of<P: ?Sized>(kind: PluginKind) -> Result<Vec<Box<P>>, PluginError>
where
    Box<P>: DeserializeOwned,
{
    let of_kind = plugins().into_iter().filter(|plugin| plugin.kind == kind);
    of_kind.map(|plugin| plugin_from_json(kind, &serde_json::json!({ "type": plugin.name }))).collect()
}

fn check_fields(plugin: &PluginInfo, given: &Map<String, Value>) -> Result<(), PluginError> {
    let fields = plugin.fields();
    for (key, value) in given.iter().filter(|(key, _)| *key != "type") {
        let refuse = |message: String| PluginError { key: key.clone(), message };
        let Some(field) = fields.iter().find(|field| field.name == *key) else {
            let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            return Err(refuse(unknown(&format!("field `{key}` of {} `{}`", plugin.kind, plugin.name), key, &known)));
        };
        if !field.types.is_empty() && !field.types.iter().any(|expected| has_type(value, expected)) {
            let expected: Vec<&str> = field.types.iter().map(String::as_str).filter(|name| *name != "null").collect();
            // TOML has no null: it stands for a number that JSON does not have.
            let given = if value.is_null() { "null or no finite number".to_owned() } else { value.to_string() };
            return Err(refuse(format!("`{key}` is {given}, but it takes a value of type {}", expected.join(" or "))));
        }
    }
    Ok(())
}

fn has_type(value: &Value, expected: &str) -> bool {
    match expected {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn describe<T: JsonSchema + Serialize + Default>() -> (String, Vec<FieldInfo>) {
    let schema = SchemaGenerator::default().into_root_schema_for::<T>();
    let defaults = serde_json::to_value(T::default()).unwrap_or(Value::Null);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    let fields = schema.get("properties").and_then(Value::as_object).map(|properties| {
        let field = |(name, property): (&String, &Value)| FieldInfo {
            name: name.clone(),
            types: types_of(property),
            default: defaults.get(name).cloned().unwrap_or(Value::Null),
            documentation: text(property.get("description")),
        };
        properties.iter().map(field).collect()
    });
    let whole = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let summary = whole.split("\n# ").next().unwrap_or_default().trim();
    (summary.replace("\n\n", " ").replace('\n', " "), fields.unwrap_or_default())
}

fn types_of(property: &Value) -> Vec<String> {
    match property.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(all(test, feature = "records"))]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Aggregator, Partitioner, SequenceStrategy};

    #[test]
    fn every_registered_plugin_deserialises_from_its_name() {
        for plugin in plugins() {
            let table = json!({ "type": plugin.name });
            match plugin.kind {
                PluginKind::Partitioner => drop(plugin_from_json::<dyn Partitioner>(plugin.kind, &table).unwrap()),
                PluginKind::SequenceStrategy => {
                    drop(plugin_from_json::<dyn SequenceStrategy>(plugin.kind, &table).unwrap());
                }
                // In `members`, which is made of what names this file.
                PluginKind::Members => {}
                PluginKind::Aggregator => drop(plugin_from_json::<dyn Aggregator>(plugin.kind, &table).unwrap()),
                PluginKind::PeftMethod
                | PluginKind::ModelFamily
                | PluginKind::Executor
                | PluginKind::UnlearningMethod => {
                    unreachable!("no such plugin is linked here")
                }
            }
            assert!(!plugin.documentation().is_empty(), "{} has no documentation", plugin.name);
        }
        assert_eq!(check_names(), Ok(()));
    }

    #[test]
    fn a_hint_is_for_near_misspellings_not_for_other_words() {
        for (name, known, hint) in [
            ("cyclik", "cyclic", true),
            ("cycle", "cyclic", true),
            ("LoRA", "LORA", true),
            ("trainning", "training", true),
            ("rang", "rank", true),
            ("text_pair", "text", false),
            ("b", "a", false),
            ("gpu", "cpu", true),
            ("mean", "beat", false),
            ("LORA", "LORA", false),
        ] {
            assert_eq!(unknown("name", name, &[known]).contains("did you mean"), hint, "{name} and {known}");
        }
    }

    #[test]
    fn refusals_name_the_key_and_the_alternatives() {
        for (table, key, message) in [
            (
                json!({"type": "cyclik"}),
                "type",
                "unknown sequence strategy `cyclik`; known: cyclic, single; did you mean `cyclic`?",
            ),
            (json!({}), "type", "the sequence strategy has no `type`; known: cyclic, single"),
            (
                json!({"type": "single", "wide": 1}),
                "wide",
                "unknown field `wide` of sequence strategy `single`; known: none",
            ),
        ] {
            let error = plugin_from_json::<dyn SequenceStrategy>(PluginKind::SequenceStrategy, &table).unwrap_err();
            assert_eq!((error.key.as_str(), error.message.as_str()), (key, message));
        }
        let table = json!({"type": "contiguous", "capacity": "many"});
        let error = plugin_from_json::<dyn Partitioner>(PluginKind::Partitioner, &table).unwrap_err();
        assert_eq!(error.message, "`capacity` is \"many\", but it takes a value of type integer");
    }
}
