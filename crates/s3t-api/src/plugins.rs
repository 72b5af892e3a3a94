//! The plugins that are linked into the program.

use s3t_core::registry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reply::plain_answers;

/// The answer to `plugins`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PluginsAnswer {
    /// Every plugin, by kind and name.
    pub plugins: Vec<Plugin>,
}

plain_answers!(PluginsAnswer);

/// A plugin that a pipeline file can name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plugin {
    /// The kind, such as `peft-method`.
    pub kind: String,
    /// The value of `type` in a pipeline file.
    #[serde(rename = "type")]
    pub name: String,
    /// The documentation.
    pub documentation: String,
    /// The fields, in the order of their names.
    pub fields: Vec<PluginField>,
}

/// A field of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PluginField {
    /// The key in a pipeline file.
    pub name: String,
    /// The JSON types that the field takes: `integer`, `number`, `string`, `boolean`, `array`, `object`, `null`; empty for any.
    pub types: Vec<String>,
    /// The default.
    pub default: Value,
    /// The documentation.
    pub documentation: String,
}

/// Lists every plugin of this program, by kind and name.
///
/// ```
/// let answer = s3t_api::plugins();
/// assert!(answer.plugins.iter().any(|plugin| plugin.name == "keyed-hash"));
/// ```
pub fn plugins() -> PluginsAnswer {
    let field = |field: registry::FieldInfo| {
        let registry::FieldInfo { name, types, default, documentation } = field;
        PluginField { name, types, default, documentation }
    };
    let plugin = |plugin: &'static registry::PluginInfo| Plugin {
        kind: plugin.kind().to_string().replace(' ', "-"),
        name: plugin.name().to_owned(),
        documentation: plugin.documentation(),
        fields: plugin.fields().into_iter().map(field).collect(),
    };
    PluginsAnswer { plugins: registry::plugins().into_iter().map(plugin).collect() }
}
