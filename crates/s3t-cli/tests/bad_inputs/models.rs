//! Rows of docs/bad-inputs.md about the files of models and adapters, on those of `tests/golden`.

use std::path::{Path, PathBuf};

use s3t_testkit::copy_folder;

use crate::Case;
use crate::workspace::Workspace;

/// Puts a case of the golden files on its base into the folder `m`.
fn golden(w: &Workspace, base: &str, name: &str) {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    copy_folder(&root.join("bases").join(base), &w.path("m")).unwrap();
    copy_folder(&root.join(name), &w.path("m")).unwrap();
}

/// Puts a golden model of a plugin into the folder `m`, with another value of a field of its configuration.
fn family(w: &Workspace, model: &str, field: &str, value: serde_json::Value) {
    let plugin = model.split('-').next().unwrap_or(model);
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    copy_folder(&plugins.join(format!("s3t-{plugin}/golden/{model}")), &w.path("m")).unwrap();
    let path = w.path("m/config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config[field] = value;
    std::fs::write(path, config.to_string()).unwrap();
    std::fs::write(w.path("m/questions.jsonl"), "{\"text\": \"the film was good\"}\n").unwrap();
}

const ASK: &[&str] = &["predict", "--model", "m", "--input", "m/questions.jsonl"];
const ASK_CUT: &[&str] = &["predict", "--model", "m", "--input", "m/questions.jsonl", "--max-tokens", "8"];
const ADAPTED: &[&str] = &["predict", "--model", "m", "--input", "m/questions.jsonl", "--adapter", "m/adapter"];

#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a row a refusal")]
pub fn cases() -> Vec<Case> {
    vec![
        Case { part: "Model files", situation: "BERT with a decoder's mask", spoil: |w| golden(w, "bert", "decoder"), args: ASK, code: 2,
            message: "`m/config.json`: `is_decoder` is true, but a decoder's causal mask is not supported for this family; accepted: false" },
        Case { part: "Model files", situation: "Llama without a causal mask", spoil: |w| golden(w, "llama", "not-causal"), args: ASK, code: 2,
            message: "`m/config.json`: `is_causal` is false, but a token that sees those behind it is not supported for this family; accepted: true" },
        Case { part: "Model files", situation: "field of a later version of the library", spoil: |w| golden(w, "bert", "later-version"), args: ASK, code: 2,
            message: "`m/config.json`: `attention_twist` is not a field that is known of BertConfig of transformers 5.24, but `transformers_version` is 6.1.0, which may give it a meaning (`model.accept_fields` in a pipeline and `--accept-field` of `s3t predict` pass over a named field knowingly)" },
        Case { part: "Model files", situation: "model with code of its own", spoil: |w| golden(w, "bert", "auto-map"), args: ASK, code: 2,
            message: "`m/config.json`: `auto_map` is {\"AutoModel\":\"mine.Model\"}, but code that comes with a model is not run; accepted: null, {}" },
        Case { part: "Model files", situation: "quantised weights", spoil: |w| golden(w, "llama", "quantised"), args: ASK, code: 2,
            message: "`m/config.json`: `quantization_config` is {\"quant_method\":\"gptq\"}, but quantised weights are not supported; accepted: null" },
        Case { part: "Model files", situation: "blocks of a kind that the family does not have", spoil: |w| family(w, "qwen2-causal", "layer_types", serde_json::json!(["full_attention", "chunked_attention", "full_attention", "full_attention"])), args: ASK, code: 2,
            message: "`m/config.json`: `layer_types` has `chunked_attention`; supported: full_attention, sliding_attention" },
        Case { part: "Model files", situation: "kinds for fewer blocks than there are", spoil: |w| family(w, "qwen2-causal", "layer_types", serde_json::json!(["full_attention"])), args: ASK, code: 2,
            message: "`m/config.json`: `layer_types` has 1 entries, but `num_hidden_layers` is 4" },
        Case { part: "Model files", situation: "windows without a width", spoil: |w| family(w, "qwen2-causal", "use_sliding_window", false.into()), args: ASK, code: 2,
            message: "`m/config.json`: `layer_types` has `sliding_attention`, which needs `use_sliding_window` and a `sliding_window`" },
        Case { part: "Model files", situation: "a window of no token", spoil: |w| family(w, "mistral-causal", "sliding_window", 0.into()), args: ASK, code: 2,
            message: "`m/config.json`: `sliding_window` is 0; it takes 1 or more tokens, or null" },
        Case { part: "Model files", situation: "heads of an odd width", spoil: |w| family(w, "mistral-causal", "head_dim", 5.into()), args: ASK, code: 2,
            message: "`m/config.json`: `head_dim` is 5, but heads of an odd width cannot be rotated" },
        Case { part: "Model files", situation: "a size under the name of other families", spoil: |w| family(w, "distilbert-classifier", "hidden_size", 32.into()), args: ASK, code: 2,
            message: "`m/config.json`: `hidden_size` is 32, but this family has another name for it: `dim`, `n_layers`, `n_heads`, `hidden_dim`, `activation`; it has to be left out" },
        Case { part: "Model files", situation: "two sections of rotary positions that disagree", spoil: |w| golden(w, "llama-causal", "two-rope-sections"), args: ASK, code: 2,
            message: "`m/config.json`: `rope_scaling` and `rope_parameters` disagree; keep one of them" },
        Case { part: "Model files", situation: "names for more outputs than the head has", spoil: |w| golden(w, "bert", "more-labels"), args: ASK, code: 2,
            message: "`m/config.json`: `id2label` says 4 outputs, but `classifier.weight` in the weights has 3" },
        Case { part: "Model files", situation: "class that is not known of the model type", spoil: |w| golden(w, "bert", "unknown-class"), args: ASK, code: 2,
            message: "`m/config.json`: `architectures` is [\"MyBert\"]; known of this model type: BertForSequenceClassification, BertModel, BertForMaskedLM, BertForMultipleChoice, BertForNextSentencePrediction, BertForPreTraining, BertForQuestionAnswering, BertForTokenClassification, BertLMHeadModel" },
        Case { part: "Model files", situation: "head of another task", spoil: |w| golden(w, "bert-tokens", "head-of-tokens"), args: ASK, code: 2,
            message: "neither the model nor an adapter has a head, so there are no logits; give --adapter with a head" },
        Case { part: "Model files", situation: "head on a model whose pooler is missing", spoil: |w| golden(w, "bert-tokens", "head-without-pooler"), args: ASK, code: 2,
            message: "`m/config.json`: the weights hold a head, `classifier`, but the model has no `pooler.dense`, which transformers would fill with random numbers" },
        Case { part: "Model files", situation: "bias that the head has no place for", spoil: |w| golden(w, "llama", "bias-without-place"), args: ASK, code: 2,
            message: "`m/model.safetensors` holds `score.bias`, which the head of this model type has no place for" },
        Case { part: "Model files", situation: "part of a head", spoil: |w| golden(w, "bert", "part-of-a-head"), args: ASK, code: 2,
            message: "`m/model.safetensors` holds a part of a head, `classifier.weight`, but not `classifier.bias`, which transformers would fill with random numbers" },
        Case { part: "Model files", situation: "reshaped weight", spoil: |w| golden(w, "bert", "reshaped"), args: ASK, code: 2,
            message: "`m/model.safetensors`: tensor `bert.encoder.layer.0.attention.self.query.weight` is [8, 32], but config.json asks for [16, 16]" },
        Case { part: "Model files", situation: "transposed weight", spoil: |w| golden(w, "bert", "transposed"), args: ASK, code: 2,
            message: "`m/model.safetensors`: tensor `bert.encoder.layer.0.output.dense.weight` is [24, 16], but config.json asks for [16, 24]" },
        Case { part: "Model files", situation: "transposed head", spoil: |w| golden(w, "bert", "transposed-head"), args: ASK, code: 2,
            message: "`m/model.safetensors`: tensor `classifier.weight` is [16, 3], but config.json asks for [16, 16]" },
        Case { part: "Model files", situation: "weight that is not finite", spoil: |w| golden(w, "bert", "infinite-weight"), args: ASK, code: 2,
            message: "`m/model.safetensors`: tensor `bert.encoder.layer.1.output.dense.weight` holds inf at position 0; a model of finite numbers is needed" },
        Case { part: "Model files", situation: "outputs that are not finite", spoil: |w| golden(w, "llama", "infinite-output"), args: ASK, code: 2,
            message: "record `row-0`: the model's outputs are not finite numbers; its weights or an adapter's are too large for 32-bit arithmetic" },
        Case { part: "Model files", situation: "sides to cut that disagree", spoil: |w| golden(w, "bert", "cut-on-which-side"), args: ASK_CUT, code: 2,
            message: "`m/tokenizer_config.json`: `truncation_side` is `right`, but the truncation of tokenizer.json cuts the left side; make them agree" },
        Case { part: "Model files", situation: "special tokens that are split", spoil: |w| golden(w, "bert", "special-tokens-split"), args: ASK, code: 2,
            message: "`m/tokenizer_config.json`: `split_special_tokens` is true, but special tokens in a text are always special; accepted: false, null" },
        Case { part: "Model files", situation: "small letters in one file, not in the other", spoil: |w| golden(w, "bert", "lower-case"), args: ASK, code: 2,
            message: "`m/tokenizer_config.json`: `do_lower_case` is false, but the normalizer of tokenizer.json does the opposite; make them agree" },
        Case { part: "Model files", situation: "special token that the tokenizer does not have as one", spoil: |w| golden(w, "bert", "token-not-special"), args: ASK, code: 2,
            message: "`m/special_tokens_map.json`: `cls_token` is `film`, which is not among the `added_tokens` of tokenizer.json; add it there, or leave the field out" },
        Case { part: "Model files", situation: "added token that differs between files", spoil: |w| golden(w, "bert", "other-added-token"), args: ASK, code: 2,
            message: "`m/tokenizer_config.json`: `added_tokens_decoder` has token 2, {\"content\":\"[CLS]\",\"lstrip\":true,\"special\":true}, otherwise than the `added_tokens` of tokenizer.json" },
        Case { part: "Model files", situation: "end token that the tokenizer does not add", spoil: |w| golden(w, "llama", "end-token-not-added"), args: ASK, code: 2,
            message: "`m/tokenizer_config.json`: `add_eos_token` is true, but tokenizer.json does the opposite; make them agree" },
        Case { part: "Model files", situation: "text with a token without an embedding", spoil: |w| golden(w, "bert", "text-with-one-token-more"), args: ASK, code: 2,
            message: "record `row-0` is a text with the token `[MORE19]` (number 44), for which the model has no embedding, but the model takes tokens 0 to 39" },
        Case { part: "Model files", situation: "text that is longer than the model, without a limit", spoil: |w| golden(w, "bert", "text-beyond-the-model"), args: ASK, code: 2,
            message: "record `row-0` is a text of 62 tokens, but the model takes texts of at most 48 tokens; `model.max_tokens` or `--max-tokens` cuts longer ones to a limit" },
        Case { part: "Model files", situation: "prompt that is longer than the limit", spoil: |w| golden(w, "llama-long", "prompt-is-not-cut"), args: ASK_CUT, code: 2,
            message: "record `row-0` is a prompt of 9 tokens or more, but the model takes prompts of 1 to 8 tokens (`--max-tokens`), which are not cut" },
        Case { part: "Model files", situation: "pair of texts for a model with one token type", spoil: |w| golden(w, "bert", "pair-without-types"), args: ASK, code: 2,
            message: "record `row-0` is a text with tokens of type 1, as those of the second of a pair, but the model takes tokens of 1 types, from 0 (`type_vocab_size`)" },
        Case { part: "Model files", situation: "question with a misspelt field", spoil: |w| golden(w, "bert", "misspelt-field"), args: ASK, code: 2,
            message: "`m/questions.jsonl` line 1: unknown field `text_pari` of a question; known: id, text, text_pair, features, image, messages; did you mean `text_pair`?" },
        Case { part: "Model files", situation: "question with the second text of a pair alone", spoil: |w| golden(w, "bert", "pair-without-first"), args: ASK, code: 2,
            message: "`m/questions.jsonl` line 1: has `text_pair`, the second text of a pair, without `text`, the first" },
        Case { part: "Model files", situation: "adapter in the folder of the model", spoil: |w| golden(w, "bert", "adapter-in-the-models-folder"), args: ASK, code: 2,
            message: "`m/adapter_config.json`: an adapter stands in the model's folder, where transformers would load it with the model; move it to another folder, for `--adapter`" },
        Case { part: "Model files", situation: "added token that differs from an older file", spoil: |w| golden(w, "bert", "older-added-tokens"), args: ASK, code: 2,
            message: "`m/added_tokens.json`: `film` is token 77, otherwise than in tokenizer.json; make them agree" },
        Case { part: "Adapters", situation: "adapter of a model without a head", spoil: |w| golden(w, "bert", "adapter-of-a-bare-model"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_model.safetensors`: holds `base_model.model.encoder.layer.0.attention.self.query.lora_A.weight`, which is neither in a block nor in the head of this model" },
        Case { part: "Adapters", situation: "saved module that has no place", spoil: |w| golden(w, "bert", "saved-module"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: `modules_to_save` names `LayerNorm`, which is neither the head nor the layer before it" },
        Case { part: "Adapters", situation: "targets without tensors", spoil: |w| golden(w, "bert", "targets-without-tensors"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_model.safetensors`: lacks `base_model.model.bert.encoder.layer.0.attention.self.key.lora_A.weight`" },
        Case { part: "Adapters", situation: "head on a model whose pooler is missing", spoil: |w| golden(w, "bert-masked", "adapter-without-pooler"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: the adapter has a head, but the model has no `pooler.dense`, which transformers would fill with random numbers" },
        Case { part: "Adapters", situation: "adapter of another task", spoil: |w| golden(w, "bert", "adapter-of-tokens"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: `task_type` is \"TOKEN_CLS\", but this base model and adapter answer as SEQ_CLS; accepted: SEQ_CLS, null" },
        Case { part: "Adapters", situation: "adapter of a language model on a classifier", spoil: |w| golden(w, "llama", "adapter-of-texts-on-classes"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: `task_type` is \"CAUSAL_LM\", but this base model and adapter answer as SEQ_CLS; accepted: SEQ_CLS, null" },
        Case { part: "Adapters", situation: "adapter of another class of models", spoil: |w| golden(w, "bert", "adapter-of-another-class"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: `auto_mapping` says that its base model is a `BertForQuestionAnswering`, whose task is not supported; known: BertForSequenceClassification, BertModel" },
        Case { part: "Adapters", situation: "transposed tensor", spoil: |w| golden(w, "bert", "transposed-adapter"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_model.safetensors`: `base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight` has the shape [16, 4], not [4, 16]" },
        Case { part: "Adapters", situation: "transposed head", spoil: |w| golden(w, "bert", "transposed-head-of-adapter"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_model.safetensors`: `base_model.model.classifier.weight` has the shape [16, 3], not [16, 16]" },
        Case { part: "Adapters", situation: "tensor that is not finite", spoil: |w| golden(w, "bert", "nan-in-adapter"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_model.safetensors`: tensor `base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.weight` holds NaN at position 0; a model of finite numbers is needed" },
        Case { part: "Adapters", situation: "adapter of changed base weights", spoil: |w| golden(w, "bert", "pissa"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: `init_lora_weights` is \"pissa\", but the adapter is one of changed base weights; convert it with `path_initial_model_for_weight_conversion` of PEFT; accepted: true, false, null, \"gaussian\", \"eva\", \"orthogonal\"" },
        Case { part: "Adapters", situation: "adapter that changes biases", spoil: |w| golden(w, "bert", "adapter-bias"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: `bias` is \"all\", but biases of the base model stay as they are; accepted: \"none\", null" },
        Case { part: "Adapters", situation: "method that is not read", spoil: |w| golden(w, "bert", "prefix-adapter"), args: ADAPTED, code: 2,
            message: "`m/adapter/adapter_config.json`: unknown adapter: its `peft_type` is `PREFIX_TUNING`; known: IA3, LORA" },
    ]
}
