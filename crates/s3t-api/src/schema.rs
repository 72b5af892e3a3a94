//! The JSON Schema of every answer, made from the types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    AdviseAnswer, AttackAnswer, AuditAnswer, ChatAnswer, CompareAnswer, CompareMethodsAnswer, DeleteAnswer, ErrorKind,
    EvalAnswer, ExportAnswer, ForgetExportAnswer, MemorisationAnswer, ModelAnswer, PlanAnswer, PluginsAnswer,
    PredictAnswer, ReceiptAnswer, RepairAnswer, RunAnswer, SimulateAnswer, StatusAnswer, StoreCheckAnswer, TaskAnswer,
    TrainAnswer, VerifiedReceiptAnswer, VerifyAnswer,
};

/// The object that a failed command prints, beside the fields of the answer that were there until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedAnswer {
    /// The message: what was wrong, where, and what to do.
    pub error: String,
    /// The kind of the failure.
    pub kind: ErrorKind,
    /// The exit code of the program.
    pub exit_code: u8,
}

/// The schema of every answer, by command: an object with a property for each command, whose schemas share their definitions.
///
/// ```
/// let schema = s3t_api::schema();
/// assert!(schema["properties"]["status"].is_object());
/// ```
pub fn schema() -> Value {
    let generator = &mut SchemaSettings::draft2020_12().for_serialize().into_generator();
    let commands: Vec<(&str, Schema)> = vec![
        ("run", generator.subschema_for::<RunAnswer>()),
        ("train", generator.subschema_for::<TrainAnswer>()),
        ("eval", generator.subschema_for::<EvalAnswer>()),
        ("eval --task", generator.subschema_for::<TaskAnswer>()),
        ("eval --memorisation", generator.subschema_for::<MemorisationAnswer>()),
        ("predict", generator.subschema_for::<PredictAnswer>()),
        ("predict --model", generator.subschema_for::<ModelAnswer>()),
        ("chat", generator.subschema_for::<ChatAnswer>()),
        ("export", generator.subschema_for::<ExportAnswer>()),
        ("delete", generator.subschema_for::<DeleteAnswer>()),
        ("receipt show", generator.subschema_for::<ReceiptAnswer>()),
        ("receipt verify", generator.subschema_for::<VerifiedReceiptAnswer>()),
        ("store check", generator.subschema_for::<StoreCheckAnswer>()),
        ("store forget-export", generator.subschema_for::<ForgetExportAnswer>()),
        ("repair", generator.subschema_for::<RepairAnswer>()),
        ("audit", generator.subschema_for::<AuditAnswer>()),
        ("attack", generator.subschema_for::<AttackAnswer>()),
        ("verify", generator.subschema_for::<VerifyAnswer>()),
        ("status", generator.subschema_for::<StatusAnswer>()),
        ("plan", generator.subschema_for::<PlanAnswer>()),
        ("advise", generator.subschema_for::<AdviseAnswer>()),
        ("simulate", generator.subschema_for::<SimulateAnswer>()),
        ("compare-sequences", generator.subschema_for::<CompareAnswer>()),
        ("compare-methods", generator.subschema_for::<CompareMethodsAnswer>()),
        ("plugins", generator.subschema_for::<PluginsAnswer>()),
        ("failed", generator.subschema_for::<FailedAnswer>()),
    ];
    let properties: Map<String, Value> =
        commands.into_iter().map(|(command, schema)| (command.to_owned(), schema.to_value())).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "s3t --json",
        "description": "The JSON objects that `s3t COMMAND --json` prints, by command; `failed` describes the fields that a failed \
            command adds to those of its answer that were there until then.",
        "type": "object",
        "properties": properties,
        "$defs": generator.take_definitions(true),
    })
}
