//! The laws of every plugin that a program links.

use s3t_core::PluginKind;
use s3t_core::registry::{check_names, plugins};
use serde_json::json;

use crate::{check_aggregator, check_members, check_partitioner, check_sequence_strategy};

/// Checks every sequence strategy, choice of members, aggregator and partitioner that is linked into the test, with default fields, and returns their
/// names. A plugin inherits its laws by being linked: no list has to be edited.
///
/// # Panics
///
/// If a law is broken, or if two plugins of one kind have one name.
pub fn check_linked_plugins() -> Vec<&'static str> {
    check_names().unwrap_or_else(|error| panic!("{error}"));
    let mut checked = Vec::new();
    for plugin in plugins() {
        let table = json!({ "type": plugin.name() });
        match plugin.kind() {
            PluginKind::SequenceStrategy => {
                check_sequence_strategy(&table, false, false);
            }
            PluginKind::Members => check_members(&table),
            PluginKind::Aggregator => check_aggregator(&table),
            PluginKind::Partitioner => {
                check_partitioner(&table);
            }
            _ => continue,
        }
        checked.push(plugin.name());
    }
    checked
}
