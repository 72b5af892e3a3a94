//! Groups of fields of `config.json` that families share.

use super::{Field, FieldTable};

const HONOURED: Field = Field::honoured("", "");
const VERSION: Option<(&str, [u64; 2])> = Some(("transformers_version", [5, 24]));

impl FieldTable {
    /// The table of the `config.json` of a family: the fields of every configuration and those of `groups`. `class` is the
    /// class in Python with the version of its library.
    pub const fn of_config(model_type: &'static str, class: &'static str, groups: &'static [&'static [Field]]) -> Self {
        Self { file: "config.json", family: model_type, class, version: VERSION, groups }
    }
}

/// A size of the model.
pub const fn size(name: &'static str) -> Field {
    Field { name, note: "a size of the model, compared with its tensors", ..HONOURED }
}

const ATTENTION: &[&str] =
    &["null", "\"eager\"", "\"sdpa\"", "\"flash_attention_2\"", "\"flash_attention_3\"", "\"flex_attention\""];

/// The fields of every configuration, and those that code of all models reads from any configuration.
pub const COMMON: &[Field] = &[
    Field::honoured("model_type", "the family"),
    Field::honoured(
        "architectures",
        "the task of the head; a head of another task is left aside, an unknown class is refused",
    ),
    Field::honoured(
        "id2label",
        "the names of the head's outputs, compared with its rows and, where the head answers in a system, with `data.labels`",
    ),
    Field::honoured("num_labels", "the number of the head's outputs where `id2label` is missing"),
    Field::honoured("transformers_version", "a field that is unknown here is refused in a file of a later version"),
    Field::harmless("label2id", "the names are taken from `id2label`"),
    Field::honoured(
        "problem_type",
        "compared with `data.task` where the head answers in a system; logits do not depend on it",
    ),
    Field::harmless(
        "dtype",
        "weights of 16 bits are read as they are and computed with in 32 bits, unless the pipeline asks for another precision",
    ),
    Field::harmless("torch_dtype", "the older name of `dtype`"),
    Field::harmless("return_dict", "the form of outputs in Python"),
    Field::harmless("output_hidden_states", "the form of outputs in Python"),
    Field::harmless("output_attentions", "the form of outputs in Python"),
    Field::harmless("tie_last_hidden_states", "the form of outputs in Python"),
    Field::harmless("chunk_size_feed_forward", "the same rows, computed in parts"),
    Field::harmless("name_or_path", "a name"),
    Field::harmless("_name_or_path", "a name"),
    Field::harmless("task_specific_params", "settings of `generate` for other models"),
    Field::harmless("finetuning_task", "a name"),
    Field::only("attn_implementation", ATTENTION, "only ways of computing the same attention are known"),
    Field::only("_attn_implementation", ATTENTION, "only ways of computing the same attention are known"),
    Field::only("is_encoder_decoder", &["false"], "models of two halves are not supported"),
    Field::only("tie_encoder_decoder", &["false", "null"], "models of two halves are not supported"),
    Field::only("per_layer_config", &["null", "{}"], "layers that differ from each other are not supported"),
    Field::only("pruned_heads", &["null", "{}"], "layers with fewer heads than others are not supported"),
    Field::only("quantization_config", &["null"], "quantised weights are not supported"),
    Field::only("auto_map", &["null", "{}"], "code that comes with a model is not run"),
    Field::only("transformers_weights", &["null"], "weights are read from model.safetensors"),
    Field::only("fusion_config", &["null"], "fused modules are not supported"),
    Field::only("distributed_config", &["null"], "distributed models are not supported"),
    Field::only("text_config", &["null"], "models inside models are not supported"),
    Field::only("text_encoder", &["null"], "models inside models are not supported"),
    Field::only("decoder", &["null"], "models inside models are not supported"),
    Field::only("generator", &["null"], "models inside models are not supported"),
    Field::only("attention_chunk_size", &["null"], "attention in chunks is not supported"),
    Field::only("kv_sharing_modes", &["null"], "keys and values that layers share are not supported"),
    Field::only(
        "adapters",
        &["null", "{}"],
        "adapters inside a model are not supported; `--adapter` reads those of PEFT",
    ),
];

/// Fields of training alone, in which the base model is frozen here.
pub const TRAINING: &[Field] = &[
    Field::harmless("initializer_range", "the start of training"),
    Field::harmless("use_cache", "the same numbers, remembered"),
    Field::harmless("gradient_checkpointing", "memory in training"),
    Field::harmless("torchscript", "the form of the program"),
];

/// Sizes and the activation, under the names that most configurations have.
pub const SIZES: &[Field] = &[
    size("hidden_size"),
    size("num_hidden_layers"),
    size("num_attention_heads"),
    size("intermediate_size"),
    Field::honoured("hidden_act", "the activation; one that is not supported is refused"),
];

/// Attention without windows, for families whose blocks see all of a record.
pub const NO_WINDOWS: &[Field] = &[
    Field::only("layer_types", &["null"], "layers of several types are not supported"),
    Field::only("sliding_window", &["null"], "attention in windows is not supported"),
    Field::only("use_sliding_window", &["false", "null"], "attention in windows is not supported"),
];

/// Encoders with layer normalisation.
pub const ENCODER: &[Field] = &[
    Field::honoured("layer_norm_eps", "the epsilon of layer normalisation"),
    Field::harmless("hidden_dropout_prob", "dropout of the frozen model, which is off"),
    Field::harmless("attention_probs_dropout_prob", "dropout of the frozen model, which is off"),
    Field::only("is_causal", &["false", "null"], "attention of this family sees the whole text or picture"),
];

/// Models of texts.
pub const TEXT: &[Field] = &[
    size("vocab_size"),
    Field::honoured("max_position_embeddings", "the largest number of tokens of a text"),
    Field::harmless("bos_token_id", "the tokenizer puts it there"),
    Field::honoured("tokenizer_class", "the class of the tokenizer, where tokenizer_config.json names none"),
];

/// Encoders of texts with the layers of BERT.
pub const BERT_LIKE: &[Field] = &[
    Field::harmless("eos_token_id", "the tokenizer puts it there"),
    Field::harmless("sep_token_id", "the tokenizer puts it there"),
    Field::harmless("tie_word_embeddings", "the head of language modelling is not used"),
    Field::harmless("classifier_dropout", "dropout in training of the head in Python"),
    Field::only(
        "position_embedding_type",
        &["\"absolute\"", "null"],
        "positions relative to each other are not supported",
    ),
    Field::only("is_decoder", &["false"], "a decoder's causal mask is not supported for this family"),
    Field::only("add_cross_attention", &["false"], "attention to another model is not supported"),
];

/// Models that continue texts, with root mean square normalisation, rotary positions and grouped heads.
pub const DECODER: &[Field] = &[
    size("num_key_value_heads"),
    Field::honoured("rms_norm_eps", "the epsilon of normalisation"),
    Field::honoured("pad_token_id", "a head reads the last token that is another"),
    Field::honoured("eos_token_id", "the tokens that end a text; training puts the first behind a response"),
    Field::honoured("tie_word_embeddings", "true if the language head is the embeddings"),
    Field::honoured("rope_parameters", "rotary positions: default, linear, llama3"),
    Field::honoured("rope_scaling", "the older name of `rope_parameters`; if both are there they have to agree"),
    Field::honoured("rope_theta", "the base of rotary positions, where the section has none"),
    Field::honoured("original_max_position_embeddings", "of rotary positions of type llama3"),
    Field::only("partial_rotary_factor", &["1", "null"], "heads of which a part is rotated are not supported"),
    Field::only("is_causal", &["true"], "a token that sees those behind it is not supported for this family"),
    Field::only("is_decoder", &["true", "false", "null"], "it is true or false"),
    Field::harmless("attention_dropout", "dropout of the frozen model, which is off"),
];
