//! Every registered sequence strategy inherits every law. A strategy without a row here fails the test.

use s3t::core::PluginKind;
use s3t::core::registry::plugins;
use s3t_testkit::check_sequence_strategy;
use serde_json::json;

/// One row a strategy: its table, whether its first L sequences are diverse, whether it makes every budget.
fn rows() -> Vec<(serde_json::Value, bool, bool)> {
    vec![
        (json!({"type": "all"}), false, false),
        (json!({"type": "auto"}), false, true),
        (json!({"type": "bms"}), true, true),
        (json!({"type": "bms", "score": "depth", "t": 3}), true, true),
        (json!({"type": "conditional"}), false, true),
        (json!({"type": "cyclic"}), true, true),
        (json!({"type": "greedy", "requests": 4}), false, true),
        (json!({"type": "random"}), false, true),
        (json!({"type": "single"}), false, false),
        (json!({"type": "sorted-cyclic"}), true, true),
    ]
}

#[test]
fn every_strategy_has_a_row_and_obeys_the_laws() {
    let strategies = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::SequenceStrategy);
    let names: Vec<&str> = strategies.map(s3t::core::PluginInfo::name).collect();
    let expected = ["all", "auto", "bms", "conditional", "cyclic", "greedy", "random", "single", "sorted-cyclic"];
    assert_eq!(names, expected, "the expected set of strategies");
    for name in names {
        assert!(rows().iter().any(|(row, ..)| row["type"] == name), "`{name}` has no row");
    }
    for (row, diverse, any_budget) in rows() {
        check_sequence_strategy(&row, diverse, any_budget);
    }
}
