//! The fields of `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.

use super::{Field, FieldTable};

/// The parts of `tokenizer.json`, which the library reads.
pub(crate) static TOKENIZER: FieldTable = FieldTable {
    file: "tokenizer.json",
    family: "texts",
    class: "Tokenizer of tokenizers 0.23",
    version: None,
    groups: &[&[
        Field::honoured("version", "read by the library"),
        Field::honoured("added_tokens", "read by the library; a text with a token that has no embedding is refused"),
        Field::honoured("normalizer", "read by the library"),
        Field::honoured("pre_tokenizer", "read by the library"),
        Field::honoured("post_processor", "read by the library"),
        Field::honoured("decoder", "read by the library"),
        Field::honoured("model", "read by the library; a `dropout` above 0 is refused"),
        Field::honoured(
            "truncation",
            "its `direction` is the side that a limit of the user cuts; its length is not a limit here",
        ),
        Field::harmless("padding", "padding reaches no result"),
    ]],
};

const ALWAYS: &str = "has to be a special token of tokenizer.json too";

const TOKENS: &[Field] = &[
    Field::honoured("bos_token", ALWAYS),
    Field::honoured("eos_token", ALWAYS),
    Field::honoured("unk_token", ALWAYS),
    Field::honoured("sep_token", ALWAYS),
    Field::honoured("pad_token", ALWAYS),
    Field::honoured("cls_token", ALWAYS),
    Field::honoured("mask_token", ALWAYS),
    Field::honoured("additional_special_tokens", ALWAYS),
    Field::honoured("extra_special_tokens", ALWAYS),
];

/// The fields of `tokenizer_config.json`. Texts are cut by `tokenizer.json`; what this file says otherwise is refused.
pub(crate) static TOKENIZER_CONFIG: FieldTable = FieldTable {
    file: "tokenizer_config.json",
    family: "texts",
    class: "the tokenizer classes of transformers 5.24",
    version: None,
    groups: &[
        TOKENS,
        &[
            Field::honoured("added_tokens_decoder", "has to be that of tokenizer.json"),
            Field::honoured("do_lower_case", "has to be that of tokenizer.json"),
            Field::honoured("strip_accents", "has to be that of tokenizer.json"),
            Field::honoured("tokenize_chinese_chars", "has to be that of tokenizer.json"),
            Field::honoured(
                "add_prefix_space",
                "followed for Llama's class; for those of RoBERTa, XLM-RoBERTa, GPT-2 and Qwen2 it has to be that of tokenizer.json",
            ),
            Field::honoured("add_bos_token", "has to be what tokenizer.json does"),
            Field::honoured("add_eos_token", "has to be what tokenizer.json does"),
            Field::honoured(
                "truncation_side",
                "the side that a limit of the user cuts; has to be that of tokenizer.json if that has one",
            ),
            Field::honoured(
                "tokenizer_class",
                "Llama's class builds normalizer, pre-tokenizer and decoder anew, and is followed unless `tokenizer.json` is of bytes; \
                 for the classes of BERT, RoBERTa, XLM-RoBERTa, GPT-2 and Qwen2 `tokenizer.json` has to say what they build; \
                 the others that build their own are refused",
            ),
            Field::only("split_special_tokens", &["false", "null"], "special tokens in a text are always special"),
            Field::only("do_basic_tokenize", &["true", "null"], "texts without basic tokenisation are not supported"),
            Field::only("never_split", &["null", "[]"], "tokens that are never split are not supported"),
            Field::only("fix_mistral_regex", &["false", "null"], "patterns are those of tokenizer.json"),
            Field::only("auto_map", &["null", "{}"], "code that comes with a model is not run"),
            Field::harmless("padding_side", "padding reaches no result"),
            Field::harmless("model_max_length", "texts are cut by a limit of the user alone"),
            Field::harmless("max_length", "texts are cut by a limit of the user alone"),
            Field::harmless("truncation_strategy", "texts are cut by a limit of the user alone"),
            Field::harmless("stride", "texts are not cut into several"),
            Field::honoured(
                "chat_template",
                "the text of a chat; of several the one named `default`; a file `chat_template.jinja` takes precedence",
            ),
            Field::harmless(
                "clean_up_tokenization_spaces",
                "completions are put together by the decoder of tokenizer.json",
            ),
            Field::honoured(
                "legacy",
                "true if Llama's class puts a blank before every part of a text, not the first alone",
            ),
            Field::honoured("model_input_names", "without `token_type_ids` both texts of a pair have one type"),
        ],
    ],
};

/// The fields of `special_tokens_map.json`.
pub(crate) static SPECIAL_TOKENS: FieldTable = FieldTable {
    file: "special_tokens_map.json",
    family: "texts",
    class: "the tokenizer classes of transformers 5.24",
    version: None,
    groups: &[TOKENS],
};
