//! A program with two plugins of one kind and name is refused at the first use of any plugin. A test binary of its own, because the
//! mistake is in how a program is put together.

use s3t_core::registry::{check_names, plugin_from_json};
use s3t_core::{Aggregator, PluginKind, SequenceStrategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Another strategy with the name of a built-in one.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Impostor {}

s3t_core::plugin!(SequenceStrategy, "cyclic", Impostor);

#[test]
fn two_plugins_of_one_name_are_refused_with_both_crates() {
    let message = "two sequence strategy plugins are called `cyclic`: of the crates s3t-core and s3t-core; link one of them \
                   only, or rename one";
    assert_eq!(check_names().unwrap_err().message, message);
    let table = json!({"type": "cyclic"});
    let refusal = plugin_from_json::<dyn SequenceStrategy>(PluginKind::SequenceStrategy, &table).unwrap_err();
    assert_eq!((refusal.key.as_str(), refusal.message.as_str()), ("type", message));
    // Other kinds are refused too: the program is wrong, whatever it is asked for first.
    let table = json!({"type": "mean-logits"});
    let refusal = plugin_from_json::<dyn Aggregator>(PluginKind::Aggregator, &table).unwrap_err();
    assert_eq!(refusal.message, message);
}
