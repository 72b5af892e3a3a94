//! Every plugin that the facade links obeys the laws of its kind, with its defaults. A plugin's own tests have its other settings.

use s3t::core::registry::{check_names, plugins};
use s3t::core::{PluginInfo, PluginKind};
use serde_json::{Value, json};

/// The table of each linked plugin of a kind: its name, and defaults for the rest. Sizes are 2 where they would be more: the model of
/// the laws is tiny.
fn tables(kind: PluginKind) -> Vec<Value> {
    let table = |plugin: &&PluginInfo| {
        let mut table = json!({ "type": plugin.name() });
        for field in plugin.fields().iter().filter(|field| field.default.as_u64() > Some(2)) {
            table[&field.name] = json!(2);
        }
        table
    };
    let tables: Vec<Value> = plugins().iter().filter(|plugin| plugin.kind() == kind).map(table).collect();
    assert!(!tables.is_empty(), "no {kind} is linked");
    tables
}

#[test]
fn every_peft_method_obeys_the_laws() {
    tables(PluginKind::PeftMethod).iter().for_each(s3t_testkit::check_peft_method);
}

#[test]
fn every_sequence_strategy_obeys_the_laws() {
    for table in tables(PluginKind::SequenceStrategy) {
        s3t_testkit::check_sequence_strategy(&table, false, false);
    }
    // The strategy of s3t-core that promises diverse sequences and any budget.
    s3t_testkit::check_sequence_strategy(&json!({"type": "cyclic"}), true, true);
}

#[test]
fn every_choice_of_members_obeys_the_laws() {
    tables(PluginKind::Members).iter().for_each(s3t_testkit::check_members);
    s3t_testkit::check_members(&json!({"type": "all-live", "slack": 0}));
    s3t_testkit::check_members(&json!({"type": "all-live", "slack": 1}));
}

#[test]
fn every_aggregator_obeys_the_laws() {
    tables(PluginKind::Aggregator).iter().for_each(s3t_testkit::check_aggregator);
}

#[test]
fn every_partitioner_obeys_the_laws() {
    for table in tables(PluginKind::Partitioner) {
        s3t_testkit::check_partitioner(&table);
    }
}

#[test]
fn no_two_plugins_share_a_name() {
    assert_eq!(check_names(), Ok(()));
}
