//! DistilBERT (Sanh et al. 2019, arXiv 1910.01108): BERT under other names, without token types and without a pooler; the head of a
//! classification model has two layers.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::{
    BlockSpec, Classes, Counting, DenseLayer, EmbeddingSpec, Ends, FieldError, HeadActivation, HeadLayout, LinearSite,
    ModelError, ModelFamily, ModelFile, ModuleNames, NormKind, NormPlace, NormSpec, PooledToken, PositionSpec,
    ReaderSpec, Room, Specification, TokenEmbeddingSpec, Visibility, activation_from_name, check_heads, check_sizes,
    check_vocabulary, constant, model_family,
};
use serde::{Deserialize, Serialize};

/// DistilBERT.
pub static DISTILBERT: ModelFamily = ModelFamily {
    model_type: "distilbert",
    documentation: "DistilBERT: BERT without token types and pooler, with a head of two layers.",
    fields: FieldTable::of_config(
        "distilbert",
        "DistilBertConfig of transformers 5.24",
        &[fields::COMMON, fields::NO_WINDOWS, fields::TRAINING, fields::TEXT, FIELDS],
    ),
    classes: Classes {
        heads: &["DistilBertForSequenceClassification"],
        others: &[
            "DistilBertModel",
            "DistilBertForMaskedLM",
            "DistilBertForMultipleChoice",
            "DistilBertForQuestionAnswering",
            "DistilBertForTokenClassification",
        ],
    },
    specify,
};

model_family!(DISTILBERT);

const OTHER_NAME: &str =
    "this family has another name for it: `dim`, `n_layers`, `n_heads`, `hidden_dim`, `activation`";

const FIELDS: &[Field] = &[
    fields::size("dim"),
    fields::size("n_layers"),
    fields::size("n_heads"),
    fields::size("hidden_dim"),
    Field::honoured("activation", "the activation; one that is not supported is refused"),
    Field::only("hidden_size", &[], OTHER_NAME),
    Field::only("num_hidden_layers", &[], OTHER_NAME),
    Field::only("num_attention_heads", &[], OTHER_NAME),
    Field::harmless(
        "intermediate_size",
        "the name that other families have for `hidden_dim`; the class does not read it",
    ),
    Field::harmless("hidden_act", "the name that other families have for `activation`; the class does not read it"),
    Field::harmless("layer_norm_eps", "the epsilon of this family is 1e-12 in any case"),
    Field::harmless("sinusoidal_pos_embds", "the start of the positions, which are read from the weights"),
    Field::harmless("pad_token_id", "padding is masked, and has no part in positions"),
    Field::harmless("eos_token_id", "the tokenizer puts it there"),
    Field::harmless("sep_token_id", "the tokenizer puts it there"),
    Field::harmless("tie_word_embeddings", "the head of language modelling is not used"),
    Field::harmless("dropout", "dropout of the frozen model, which is off"),
    Field::harmless("attention_dropout", "dropout of the frozen model, which is off"),
    Field::harmless("qa_dropout", "dropout of a head of another task"),
    Field::harmless("seq_classif_dropout", "dropout in training of the head in Python"),
    Field::harmless("tie_weights_", "a mark of older versions, which the class does not read"),
    Field::only("is_decoder", &["false", "null"], "a decoder's causal mask is not supported for this family"),
    Field::only("is_causal", &["false", "null"], "attention of this family sees the whole text"),
];

/// The part of a `config.json` that decides what the model computes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DistilBertConfig {
    model_type: String,
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: String,
    max_position_embeddings: usize,
    #[serde(default, skip_serializing)]
    pad_token_id: Option<u32>,
}

impl DistilBertConfig {
    fn check(&self) -> Result<(), FieldError> {
        check_sizes(&[
            ("dim", self.dim),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("hidden_dim", self.hidden_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ])?;
        check_heads(("dim", self.dim), ("n_heads", self.n_heads))?;
        check_vocabulary(self.vocab_size, &[("pad_token_id", self.pad_token_id)])?;
        if self.max_position_embeddings < 4 {
            let problem = format!("is {}; at least 4 positions are needed", self.max_position_embeddings);
            return Err(FieldError::new("max_position_embeddings", problem));
        }
        activation_from_name("activation", &self.activation).map(drop)
    }
}

const NAMES: [ModuleNames; 1] = [ModuleNames {
    blocks: "distilbert.transformer.layer",
    linears: &[
        (LinearSite::Query, "attention.q_lin"),
        (LinearSite::Key, "attention.k_lin"),
        (LinearSite::Value, "attention.v_lin"),
        (LinearSite::Output, "attention.out_lin"),
        (LinearSite::Up, "ffn.lin1"),
        (LinearSite::Down, "ffn.lin2"),
    ],
}];

const HEAD: HeadLayout = HeadLayout {
    dense: Some(DenseLayer { module: "pre_classifier", activation: HeadActivation::Relu }),
    output: "classifier",
    bias: true,
};

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let config: DistilBertConfig = file.parse()?;
    let refuse = |error: FieldError| file.refuse(error);
    config.check().map_err(refuse)?;
    let (hidden, positions) = (config.dim, config.max_position_embeddings);
    let norm = |module: &'static str| NormSpec { module, kind: NormKind::Layer, epsilon: 1e-12 };
    Ok(Specification {
        constants: vec![constant(&config).map_err(refuse)?],
        context: "distilbert",
        prefix: "distilbert.",
        names: &NAMES,
        reader: ReaderSpec::Texts {
            room: Room { vocabulary: config.vocab_size, positions, types: None },
            ends: Ends::default(),
        },
        embedding: EmbeddingSpec::Tokens(TokenEmbeddingSpec {
            words: "embeddings.word_embeddings",
            vocabulary: config.vocab_size,
            width: hidden,
            padding: config.pad_token_id.unwrap_or(0),
            positions: Some(PositionSpec {
                module: "embeddings.position_embeddings",
                count: positions,
                counting: Counting::FromZero,
            }),
            types: None,
            norm: Some(norm("embeddings.LayerNorm")),
        }),
        blocks: BlockSpec {
            visibility: vec![Visibility::Full; config.n_layers],
            hidden,
            inner: config.hidden_dim,
            heads: config.n_heads,
            kv_heads: config.n_heads,
            head_dim: hidden / config.n_heads,
            rotary: None,
            norms: NormPlace::After,
            attention_norm: norm("sa_layer_norm"),
            feed_forward_norm: norm("output_layer_norm"),
            activation: activation_from_name("activation", &config.activation).map_err(refuse)?,
            biases: LinearSite::ALL.to_vec(),
        },
        final_norm: None,
        pooled: PooledToken::First,
        pooler: None,
        language: None,
        head: HEAD,
        unused: &[
            "pre_classifier.",
            "classifier.",
            "qa_outputs.",
            "vocab_transform.",
            "vocab_layer_norm.",
            "vocab_projector.",
            "distilbert.embeddings.position_ids",
            "embeddings.position_ids",
        ],
    })
}
