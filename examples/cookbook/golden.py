"""The golden files of `roberta-prelayernorm`, made by xtask/golden/make.py."""

import dataclasses

import transformers as tf


def make(kit, folder):
    modules = ["query", "key", "value", "output.dense", "intermediate.dense"]
    ia3 = {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}
    kit.FAMILIES["roberta-prelayernorm"] = dataclasses.replace(kit.BERT, linears=modules, ia3=ia3)
    config = {"num_labels": 3, "type_vocab_size": 1, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    folder.text("roberta-prelayernorm-classifier", 61, tf.RobertaPreLayerNormForSequenceClassification,
                kit.roberta_tokenizer(), config)
    return []
