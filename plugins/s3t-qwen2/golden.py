"""The golden files of `qwen2`, made by xtask/golden/make.py."""

import transformers as tf


def make(kit, folder):
    kit.FAMILIES["qwen2"] = kit.LLAMA_LIKE
    grouped = {"num_key_value_heads": 2}
    # Attention in windows in the upper half of the layers only, with a window that most texts exceed.
    windows = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}
    return [
        folder.text("qwen2-classifier", 21, tf.Qwen2ForSequenceClassification, kit.llama_byte_fallback(),
                    {"num_labels": 3, "pad_token_id": 2} | grouped),
        folder.text("qwen2-causal", 22, tf.Qwen2ForCausalLM, kit.llama_byte_level(),
                    {"tie_word_embeddings": True} | grouped | windows),
    ]


def sweep(kit):
    windows = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
    return [
        kit.Family("qwen2", tf.Qwen2Config, tf.Qwen2ForSequenceClassification, kit.LLAMA, **kit.LLAMA_TOKENS),
        kit.Family("qwen2-causal", tf.Qwen2Config, tf.Qwen2ForCausalLM, kit.LLAMA | windows, causal=True, **kit.LLAMA_TOKENS),
    ]
