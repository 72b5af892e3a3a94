"""The golden files of `electra`, made by xtask/golden/make.py."""

import dataclasses

import transformers as tf


def make(kit, folder):
    modules = ["query", "key", "value", "output.dense", "intermediate.dense"]
    ia3 = {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}
    kit.FAMILIES["electra"] = dataclasses.replace(kit.BERT, linears=modules, ia3=ia3)
    return [
        folder.text("electra-classifier", 51, tf.ElectraForSequenceClassification, kit.word_piece(),
                    {"num_labels": 3, "embedding_size": 8}),
    ]
