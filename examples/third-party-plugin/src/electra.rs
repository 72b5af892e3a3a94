//! ELECTRA (Clark et al. 2020, arXiv 2003.10555), a model family from outside: BERT with embeddings that may be narrower than the
//! blocks, and a head of two layers with GELU between them.

use s3t_models::burn::tensor::Tensor;
use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::{
    BlockSpec, Classes, Counting, DenseLayer, Embedding, EmbeddingSpec, Ends, FieldError, HeadActivation, HeadLayout,
    Hidden, Input, Linear, LinearSite, ModelError, ModelFamily, ModelFile, ModuleNames, NormKind, NormPlace, NormSpec,
    PooledToken, PositionSpec, ReaderSpec, Room, Specification, TokenEmbedding, TokenEmbeddingSpec, TypeSpec,
    Visibility, activation_from_name, check_epsilon, check_heads, check_sizes, check_vocabulary, constant,
    model_family,
};
use serde::{Deserialize, Serialize};

/// ELECTRA.
pub static ELECTRA: ModelFamily = ModelFamily {
    model_type: "electra",
    documentation: "ELECTRA discriminators: BERT with narrow embeddings and a head of two layers.",
    fields: FieldTable::of_config(
        "electra",
        "ElectraConfig of transformers 5.24",
        &[
            fields::COMMON,
            fields::SIZES,
            fields::NO_WINDOWS,
            fields::TRAINING,
            fields::ENCODER,
            fields::TEXT,
            fields::BERT_LIKE,
            &[
                fields::size("embedding_size"),
                fields::size("type_vocab_size"),
                Field::harmless("pad_token_id", "padding is masked, and has no part in positions"),
                Field::harmless("summary_type", "of a head of another task"),
                Field::harmless("summary_use_proj", "of a head of another task"),
                Field::harmless("summary_activation", "of a head of another task"),
                Field::harmless("summary_last_dropout", "of a head of another task"),
            ],
        ],
    ),
    classes: Classes {
        heads: &["ElectraForSequenceClassification"],
        others: &[
            "ElectraModel",
            "ElectraForMaskedLM",
            "ElectraForMultipleChoice",
            "ElectraForPreTraining",
            "ElectraForQuestionAnswering",
            "ElectraForTokenClassification",
        ],
    },
    specify,
};

model_family!(ELECTRA);

/// The part of a `config.json` that decides what the model computes.
#[derive(Serialize, Deserialize)]
struct ElectraConfig {
    vocab_size: usize,
    embedding_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
}

fn epsilon() -> f64 {
    1e-12
}

impl ElectraConfig {
    fn check(&self) -> Result<(), FieldError> {
        check_sizes(&[
            ("embedding_size", self.embedding_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        check_heads(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        check_vocabulary(self.vocab_size, &[])?;
        check_epsilon("layer_norm_eps", self.layer_norm_eps)
    }
}

const NAMES: [ModuleNames; 1] = [ModuleNames {
    blocks: "electra.encoder.layer",
    linears: &[
        (LinearSite::Query, "attention.self.query"),
        (LinearSite::Key, "attention.self.key"),
        (LinearSite::Value, "attention.self.value"),
        (LinearSite::Output, "attention.output.dense"),
        (LinearSite::Up, "intermediate.dense"),
        (LinearSite::Down, "output.dense"),
    ],
}];

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let config: ElectraConfig = file.parse()?;
    let refuse = |error: FieldError| file.refuse(error);
    config.check().map_err(refuse)?;
    let (hidden, width, positions) = (config.hidden_size, config.embedding_size, config.max_position_embeddings);
    let norm = |module: &'static str| NormSpec { module, kind: NormKind::Layer, epsilon: config.layer_norm_eps };
    let tokens = TokenEmbeddingSpec {
        words: "embeddings.word_embeddings",
        vocabulary: config.vocab_size,
        width,
        padding: 0,
        positions: Some(PositionSpec {
            module: "embeddings.position_embeddings",
            count: positions,
            counting: Counting::FromZero,
        }),
        types: Some(TypeSpec {
            module: "embeddings.token_type_embeddings",
            count: config.type_vocab_size,
            used: config.type_vocab_size,
        }),
        norm: Some(norm("embeddings.LayerNorm")),
    };
    Ok(Specification {
        constants: vec![constant(&config).map_err(refuse)?],
        context: "electra",
        prefix: "electra.",
        names: &NAMES,
        reader: ReaderSpec::Texts {
            room: Room { vocabulary: config.vocab_size, positions, types: Some(config.type_vocab_size) },
            ends: Ends::default(),
        },
        embedding: if width == hidden {
            EmbeddingSpec::Tokens(tokens)
        } else {
            EmbeddingSpec::Own(Box::new(move |loader| {
                let narrow = TokenEmbedding::load(tokens, loader)?;
                let wide = loader.linear("embeddings_project", width, hidden, true)?;
                Ok(Box::new(Widened { narrow, wide }))
            }))
        },
        blocks: BlockSpec {
            visibility: vec![Visibility::Full; config.num_hidden_layers],
            hidden,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_attention_heads,
            head_dim: hidden / config.num_attention_heads,
            rotary: None,
            norms: NormPlace::After,
            attention_norm: norm("attention.output.LayerNorm"),
            feed_forward_norm: norm("output.LayerNorm"),
            activation: activation_from_name("hidden_act", &config.hidden_act).map_err(refuse)?,
            biases: LinearSite::ALL.to_vec(),
        },
        final_norm: None,
        pooled: PooledToken::First,
        pooler: None,
        language: None,
        head: HeadLayout {
            dense: Some(DenseLayer { module: "classifier.dense", activation: HeadActivation::Gelu }),
            output: "classifier.out_proj",
            bias: true,
        },
        unused: &[
            "classifier.",
            "discriminator_predictions.",
            "generator_predictions.",
            "generator_lm_head.",
            "qa_outputs.",
            "electra.embeddings.position_ids",
            "embeddings.position_ids",
        ],
    })
}

/// Embeddings that a linear layer brings to the width of the blocks.
struct Widened {
    narrow: TokenEmbedding,
    wide: Linear,
}

impl Embedding for Widened {
    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let Hidden { states, lengths } = self.narrow.embed(inputs, tokens);
        let [batch, _, width] = states.dims();
        let rows: Tensor<2> = self.wide.forward(states.reshape([batch * tokens, width]));
        let hidden = rows.dims()[1];
        Hidden { states: rows.reshape([batch, tokens, hidden]), lengths }
    }
}
