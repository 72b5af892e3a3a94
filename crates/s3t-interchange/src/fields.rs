//! The fields of `adapter_config.json`, by `peft_type`.

use s3t_models::fields::{Field, FieldTable};

const FILE: &str = "adapter_config.json";
const VERSION: Option<(&str, [u64; 2])> = Some(("peft_version", [0, 21]));

static TABLES: [FieldTable; 2] = [
    FieldTable {
        file: FILE,
        family: "LORA",
        class: "LoraConfig of peft 0.21",
        version: VERSION,
        groups: &[COMMON, LORA],
    },
    FieldTable { file: FILE, family: "IA3", class: "IA3Config of peft 0.21", version: VERSION, groups: &[COMMON, IA3] },
];

/// The tables of the files of adapters.
pub fn tables() -> Vec<FieldTable> {
    TABLES.to_vec()
}

/// The table of a `peft_type`; `None` for a type that only a third party's method reads.
pub(crate) fn of_adapter(peft_type: &str) -> Option<&'static FieldTable> {
    TABLES.iter().find(|table| table.family == peft_type)
}

const NAME: &str = "a name, which nothing is read from";

const COMMON: &[Field] = &[
    Field::honoured("peft_type", "the method"),
    Field::honoured(
        "task_type",
        "SEQ_CLS for a head of classes, CAUSAL_LM for a language head; adapters of other tasks are refused",
    ),
    Field::honoured(
        "auto_mapping",
        "its `base_model_class` has to be one with a head of classes, a language head or none",
    ),
    Field::honoured("target_modules", "names, ends of names, a regular expression or `all-linear`"),
    Field::honoured("exclude_modules", "names, ends of names or a regular expression"),
    Field::honoured("modules_to_save", "the head, and BERT's pooler; other modules are refused by their tensors"),
    Field::honoured("peft_version", "a field that is unknown here is refused in a file of a later version"),
    Field::harmless("base_model_name_or_path", NAME),
    Field::harmless("revision", NAME),
    Field::harmless("inference_mode", "training alone"),
    Field::harmless("fan_in_fan_out", "of a kind of layer that no family here has"),
    Field::only("auto_map", &["null", "{}"], "code that comes with an adapter is not run"),
];

const CHANGED: &str =
    "the adapter is one of changed base weights; convert it with `path_initial_model_for_weight_conversion` of PEFT";
const START: &str = "the start of training, which `init_lora_weights` asks for or not";

const LORA: &[Field] = &[
    Field::honoured("r", "the rank"),
    Field::honoured("lora_alpha", "the numerator of the scale"),
    Field::honoured("rank_pattern", "ranks of single modules"),
    Field::honoured("alpha_pattern", "numerators of single modules"),
    Field::honoured("use_rslora", "the scale `alpha / sqrt(r)`"),
    Field::honoured("use_dora", "DoRA"),
    Field::honoured("layers_to_transform", "block numbers; none or an empty list is all"),
    Field::honoured("layers_pattern", "the name of the list of blocks, for `layers_to_transform`"),
    Field::harmless("lora_dropout", "dropout in training"),
    Field::harmless("runtime_config", "where numbers are computed"),
    Field::harmless("megatron_core", "of `megatron_config`"),
    Field::harmless("qalora_group_size", "of `use_qalora`"),
    Field::harmless("loftq_config", START),
    Field::harmless("eva_config", START),
    Field::harmless("corda_config", START),
    Field::harmless("lora_ga_config", START),
    Field::only("init_lora_weights", &["true", "false", "null", "\"gaussian\"", "\"eva\"", "\"orthogonal\""], CHANGED),
    Field::only("bias", &["\"none\"", "null"], "biases of the base model stay as they are"),
    Field::only("lora_bias", &["false", "null"], "updates with a bias are not supported"),
    Field::only("target_parameters", &["null", "[]"], "updates of single parameters are not supported"),
    Field::only("trainable_token_indices", &["null", "[]", "{}"], "embeddings of single tokens are not supported"),
    Field::only("layer_replication", &["null", "[]"], "blocks that are there several times are not supported"),
    Field::only("megatron_config", &["null"], "layers of Megatron are not supported"),
    Field::only("velora_config", &["null"], "this variant of LoRA is not supported"),
    Field::only("alora_invocation_tokens", &["null", "[]"], "this variant of LoRA is not supported"),
    Field::only("use_qalora", &["false", "null"], "this variant of LoRA is not supported"),
    Field::only("monteclora_config", &["null"], "this variant of LoRA is not supported"),
    Field::only("use_bdlora", &["null", "false"], "this variant of LoRA is not supported"),
    Field::only("arrow_config", &["null"], "this variant of LoRA is not supported"),
    Field::only("kasa_config", &["null"], "this variant of LoRA is not supported"),
    Field::only("ensure_weight_tying", &["false", "null"], "embeddings are not adapted"),
];

const IA3: &[Field] = &[
    Field::honoured("feedforward_modules", "those of the targets whose input is scaled"),
    Field::harmless("init_ia3_weights", "the start of training"),
];
