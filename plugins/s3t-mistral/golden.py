"""The golden files of `mistral`, made by xtask/golden/make.py."""

import transformers as tf


def make(kit, folder):
    kit.FAMILIES["mistral"] = kit.LLAMA_LIKE
    # Heads of a width of their own, and a window that most texts exceed.
    heads = {"num_key_value_heads": 2, "head_dim": 6}
    return [
        folder.text("mistral-classifier", 31, tf.MistralForSequenceClassification, kit.llama_byte_fallback(),
                    {"num_labels": 3, "pad_token_id": 2, "sliding_window": None} | heads),
        folder.text("mistral-causal", 32, tf.MistralForCausalLM, kit.llama_byte_level(), {"sliding_window": 5} | heads),
    ]


def sweep(kit):
    return [
        kit.Family("mistral", tf.MistralConfig, tf.MistralForSequenceClassification, kit.LLAMA, **kit.LLAMA_TOKENS),
        kit.Family("mistral-causal", tf.MistralConfig, tf.MistralForCausalLM, kit.LLAMA | {"sliding_window": 3},
                   causal=True, **kit.LLAMA_TOKENS),
    ]
