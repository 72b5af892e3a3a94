//! BERT (Devlin et al. 2019, arXiv 1810.04805) and RoBERTa (Liu et al. 2019, arXiv 1907.11692), which differ in how they
//! count positions and in the head of a classification model. DistilRoBERTa and MiniLM are models of these types.

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::{
    BlockSpec, Classes, Counting, DenseLayer, EmbeddingSpec, Ends, FieldError, HeadActivation, HeadLayout, LinearSite,
    ModelError, ModelFamily, ModelFile, ModuleNames, NormKind, NormPlace, NormSpec, PooledToken, PoolerSpec,
    PositionSpec, ReaderSpec, Room, Specification, TokenEmbeddingSpec, TypeSpec, Visibility, activation_from_name,
    check_epsilon, check_heads, check_sizes, check_vocabulary, constant, model_family,
};
use serde::{Deserialize, Serialize};

/// BERT.
pub static BERT: ModelFamily = ModelFamily {
    model_type: "bert",
    documentation: "BERT: texts with token types, post-norm blocks, the first token goes through the pooler to the head.",
    fields: FieldTable::of_config(
        "bert",
        "BertConfig of transformers 5.24",
        &[
            fields::COMMON,
            fields::SIZES,
            fields::NO_WINDOWS,
            fields::TRAINING,
            fields::ENCODER,
            fields::TEXT,
            &[
                fields::size("type_vocab_size"),
                Field::harmless("pad_token_id", "padding is masked, and has no part in positions"),
            ],
            fields::BERT_LIKE,
        ],
    ),
    classes: Classes {
        heads: &["BertForSequenceClassification"],
        others: &[
            "BertModel",
            "BertForMaskedLM",
            "BertForMultipleChoice",
            "BertForNextSentencePrediction",
            "BertForPreTraining",
            "BertForQuestionAnswering",
            "BertForTokenClassification",
            "BertLMHeadModel",
        ],
    },
    specify,
};

model_family!(BERT);

/// RoBERTa.
pub static ROBERTA: ModelFamily = ModelFamily {
    model_type: "roberta",
    documentation: "RoBERTa: BERT with positions behind the padding token and a head of two layers.",
    fields: FieldTable::of_config(
        "roberta",
        "RobertaConfig of transformers 5.24",
        &[
            fields::COMMON,
            fields::SIZES,
            fields::NO_WINDOWS,
            fields::TRAINING,
            fields::ENCODER,
            fields::TEXT,
            &[
                fields::size("type_vocab_size"),
                Field::honoured("pad_token_id", "positions are counted from behind it, and pass over it in a text"),
            ],
            fields::BERT_LIKE,
        ],
    ),
    classes: Classes {
        heads: &["RobertaForSequenceClassification"],
        others: &[
            "RobertaModel",
            "RobertaForCausalLM",
            "RobertaForMaskedLM",
            "RobertaForMultipleChoice",
            "RobertaForQuestionAnswering",
            "RobertaForTokenClassification",
        ],
    },
    specify,
};

model_family!(ROBERTA);

/// The part of a `config.json` that decides what the model computes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BertConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default)]
    pad_token_id: Option<u32>,
    // Part of the digests of stores that are there.
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn epsilon() -> f64 {
    1e-12
}

/// The most types of tokens: each has a table of its own for all positions.
const MOST_TYPES: usize = 16;

impl BertConfig {
    fn check(&self) -> Result<(), FieldError> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        if self.type_vocab_size > MOST_TYPES {
            let problem = format!("is {}; at most {MOST_TYPES} types of tokens are supported", self.type_vocab_size);
            return Err(FieldError::new("type_vocab_size", problem));
        }
        check_heads(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        let positions = self.max_position_embeddings.saturating_sub(self.counting().first());
        check_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        check_vocabulary(self.vocab_size, &[("pad_token_id", self.pad_token_id)])?;
        if positions < 4 {
            let all = self.max_position_embeddings;
            let problem = format!("{all} leaves {positions} positions for texts; at least 4 are needed");
            return Err(FieldError::new("max_position_embeddings", problem));
        }
        activation_from_name("hidden_act", &self.hidden_act).map(drop)
    }

    fn is_roberta(&self) -> bool {
        self.model_type == "roberta"
    }

    fn head(&self) -> HeadLayout {
        if self.is_roberta() {
            let dense = DenseLayer { module: "classifier.dense", activation: HeadActivation::Tanh };
            HeadLayout { dense: Some(dense), output: "classifier.out_proj", bias: true }
        } else {
            HeadLayout { dense: None, output: "classifier", bias: true }
        }
    }

    /// RoBERTa counts positions from behind the id of its padding token.
    fn counting(&self) -> Counting {
        if self.is_roberta() { Counting::BehindPadding(self.pad_token_id.unwrap_or(1)) } else { Counting::FromZero }
    }
}

const MODULES: [(LinearSite, &str); 6] = [
    (LinearSite::Query, "attention.self.query"),
    (LinearSite::Key, "attention.self.key"),
    (LinearSite::Value, "attention.self.value"),
    (LinearSite::Output, "attention.output.dense"),
    (LinearSite::Up, "intermediate.dense"),
    (LinearSite::Down, "output.dense"),
];

const NO_POOLER: &str = "the model has no `pooler.dense`, which transformers would fill with random numbers";

const BERT_NAMES: [ModuleNames; 1] = [ModuleNames { blocks: "bert.encoder.layer", linears: &MODULES }];

const ROBERTA_NAMES: [ModuleNames; 1] = [ModuleNames { blocks: "roberta.encoder.layer", linears: &MODULES }];

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let config: BertConfig = file.parse()?;
    config.check().map_err(|error| file.refuse(error))?;
    let roberta = config.is_roberta();
    if roberta && file.fields().get("pad_token_id").is_some_and(|value| value.is_null()) {
        let problem = "is null, but RoBERTa counts positions from behind it";
        return Err(file.refuse(FieldError::new("pad_token_id", problem)));
    }
    let (hidden, positions, counting) = (config.hidden_size, config.max_position_embeddings, config.counting());
    let norm = |module: &'static str| NormSpec { module, kind: NormKind::Layer, epsilon: config.layer_norm_eps };
    // RoBERTa's texts have tokens of one type, whatever its tokenizer says.
    let used = if roberta { 1 } else { config.type_vocab_size };
    let room = Room {
        vocabulary: config.vocab_size,
        positions: positions - counting.first(),
        types: (!roberta).then_some(config.type_vocab_size),
    };
    let pooler = PoolerSpec { module: "pooler.dense", whole: "bert.pooler.dense", obstacle: NO_POOLER };
    Ok(Specification {
        constants: vec![constant(&config).map_err(|error| file.refuse(error))?],
        context: "bert",
        prefix: if roberta { "roberta." } else { "bert." },
        names: if roberta { &ROBERTA_NAMES } else { &BERT_NAMES },
        reader: ReaderSpec::Texts { room, ends: Ends::default() },
        embedding: EmbeddingSpec::Tokens(TokenEmbeddingSpec {
            words: "embeddings.word_embeddings",
            vocabulary: config.vocab_size,
            width: hidden,
            padding: config.pad_token_id.unwrap_or(0),
            positions: Some(PositionSpec { module: "embeddings.position_embeddings", count: positions, counting }),
            types: Some(TypeSpec { module: "embeddings.token_type_embeddings", count: config.type_vocab_size, used }),
            norm: Some(norm("embeddings.LayerNorm")),
        }),
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
            activation: activation_from_name("hidden_act", &config.hidden_act).map_err(|error| file.refuse(error))?,
            biases: LinearSite::ALL.to_vec(),
        },
        final_norm: None,
        pooled: PooledToken::First,
        pooler: (!roberta).then_some(pooler),
        language: None,
        head: config.head(),
        // Heads of other tasks, and constants that older versions of the library wrote beside the weights.
        unused: &[
            "classifier.",
            "cls.",
            "lm_head.",
            "qa_outputs.",
            "pooler.",
            "roberta.pooler.",
            "embeddings.position_ids",
            "bert.embeddings.position_ids",
            "roberta.embeddings.position_ids",
        ],
    })
}
