"""The golden files of `distilbert`, made by xtask/golden/make.py."""

import transformers as tf


def make(kit, folder):
    kit.FAMILIES["distilbert"] = kit.Family(
        layers_pattern="layer",
        query_value=["q_lin", "v_lin"],
        linears=["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
        up="lin1",
        ia3={"target_modules": ["k_lin", "v_lin", "lin2"], "feedforward_modules": ["lin2"]},
        attention="attention",
        attention_output="attention.out_lin",
        feed_forward_output="ffn.lin2",
        head=("pre_classifier", "classifier"),
    )
    sizes = {"dim": 16, "n_layers": 4, "n_heads": 4, "hidden_dim": 24}
    folder.text("distilbert-model", 42, tf.DistilBertModel, kit.word_piece(), {"sizes": sizes, "activation": "relu"})
    return [
        folder.text("distilbert-classifier", 41, tf.DistilBertForSequenceClassification, kit.word_piece(),
                    {"num_labels": 3, "sizes": sizes}),
    ]


def sweep(kit):
    sizes = {"vocab_size": 40, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24}
    bert = next(family for family in kit.FAMILIES if family.name == "bert")
    return [
        kit.Family("distilbert", tf.DistilBertConfig, tf.DistilBertForSequenceClassification,
                   sizes | {"max_position_embeddings": 48, "num_labels": 3}, bert.special, bert.single, bert.pair, bert.pad,
                   query_value=("q_lin", "v_lin"), up="lin1", blocks="layer"),
    ]
