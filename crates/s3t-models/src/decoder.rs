//! Models that continue texts in the manner of Llama (Touvron et al. 2023, arXiv 2302.13971): root mean square normalisation before
//! each sublayer, rotary positions, grouped heads, a gated feed-forward layer, and a head that reads a text's last token.

use s3t_peft::LinearSite;
use serde_json::{Value, json};

use crate::attention::Visibility;
use crate::block::NormPlace;
use crate::embedding::TokenEmbeddingSpec;
use crate::model_file::ModelFile;
use crate::norm::{NormKind, NormSpec};
use crate::pooling::PooledToken;
use crate::rotary::Rotary;
use crate::specification::{BlockSpec, EmbeddingSpec, LanguageSpec, ModuleNames, ReaderSpec, Specification};
use crate::text::{Ends, Room};
use crate::{
    FieldError, HeadLayout, ModelError, activation_from_name, check_epsilon, check_heads, check_key_value_heads,
    check_positions, check_sizes, check_vocabulary, token_ids,
};

const MODULES: [(LinearSite, &str); 7] = [
    (LinearSite::Query, "self_attn.q_proj"),
    (LinearSite::Key, "self_attn.k_proj"),
    (LinearSite::Value, "self_attn.v_proj"),
    (LinearSite::Output, "self_attn.o_proj"),
    (LinearSite::Gate, "mlp.gate_proj"),
    (LinearSite::Up, "mlp.up_proj"),
    (LinearSite::Down, "mlp.down_proj"),
];

const NAMES: [ModuleNames; 1] = [ModuleNames { blocks: "model.layers", linears: &MODULES }];

const HEAD: HeadLayout = HeadLayout { dense: None, output: "score", bias: false };

/// A decoder, described by the fields that such families share and by its differences from the others.
#[derive(Debug, Clone)]
pub struct DecoderSpec<'a> {
    /// The name that the digest starts from.
    pub context: &'static str,
    /// The fields of `config.json` that the family reads, beside those of rotary positions, as they enter the digest.
    pub config: Value,
    /// `vocab_size`.
    pub vocabulary: usize,
    /// `hidden_size`.
    pub hidden: usize,
    /// `intermediate_size`.
    pub inner: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `num_key_value_heads`.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// `hidden_act`.
    pub activation: &'a str,
    /// `rms_norm_eps`.
    pub epsilon: f64,
    /// `max_position_embeddings`.
    pub positions: usize,
    /// `tie_word_embeddings`.
    pub tied: bool,
    /// `eos_token_id`: a token, several, or null.
    pub eos_token_id: &'a Value,
    /// `pad_token_id`.
    pub padding: Option<u32>,
    /// The linear layers that have a bias.
    pub biases: Vec<LinearSite>,
    /// The tokens that a token sees in each block.
    pub visibility: Vec<Visibility>,
}

impl DecoderSpec<'_> {
    /// The description of the model.
    ///
    /// # Errors
    ///
    /// [`ModelError`] naming the file and the first field that cannot be used.
    pub fn specify(self, file: &ModelFile) -> Result<Specification, ModelError> {
        let refuse = |error: FieldError| file.refuse(error);
        let ends = self.check().map_err(refuse)?;
        let rotary = Rotary::from_config(file.fields(), self.head_dim).map_err(refuse)?;
        let ends = Ends::of_causal(file, &ends, self.padding)?;
        let activation = activation_from_name("hidden_act", self.activation).map_err(refuse)?;
        let (hidden, vocabulary) = (self.hidden, self.vocabulary);
        let norm = |module: &'static str| NormSpec { module, kind: NormKind::Rms, epsilon: self.epsilon };
        Ok(Specification {
            constants: self.constants(file),
            context: self.context,
            prefix: "model.",
            names: &NAMES,
            reader: ReaderSpec::Texts { room: Room { vocabulary, positions: self.positions, types: None }, ends },
            embedding: EmbeddingSpec::Tokens(TokenEmbeddingSpec {
                words: "embed_tokens",
                vocabulary,
                width: hidden,
                padding: 0,
                positions: None,
                types: None,
                norm: None,
            }),
            blocks: BlockSpec {
                visibility: self.visibility,
                hidden,
                inner: self.inner,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                rotary: Some(rotary),
                norms: NormPlace::Before,
                attention_norm: norm("input_layernorm"),
                feed_forward_norm: norm("post_attention_layernorm"),
                activation,
                biases: self.biases,
            },
            final_norm: Some(norm("norm")),
            pooled: PooledToken::Last,
            pooler: None,
            language: Some(LanguageSpec { module: "lm_head", vocabulary, tied: self.tied }),
            head: HEAD,
            unused: &["score.", "qa_outputs."],
        })
    }

    /// Checks the fields; the tokens that end a text.
    fn check(&self) -> Result<Vec<u32>, FieldError> {
        check_sizes(&[
            ("hidden_size", self.hidden),
            ("num_hidden_layers", self.visibility.len()),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.inner),
        ])?;
        check_heads(("hidden_size", self.hidden), ("num_attention_heads", self.heads))?;
        check_key_value_heads(self.heads, self.kv_heads, self.head_dim)?;
        check_epsilon("rms_norm_eps", self.epsilon)?;
        let ends = token_ids("eos_token_id", self.eos_token_id)?;
        let mut tokens: Vec<_> = ends.iter().map(|id| ("eos_token_id", Some(*id))).collect();
        tokens.push(("pad_token_id", self.padding));
        check_vocabulary(self.vocabulary, &tokens)?;
        check_positions(self.positions)?;
        activation_from_name("hidden_act", self.activation)?;
        Ok(ends)
    }

    /// The constants of the digest. Fields that were read after the digests of stores were defined are added where they are there.
    fn constants(&self, file: &ModelFile) -> Vec<Value> {
        let fields = file.fields();
        let rotary = ["rope_theta", "rope_scaling", "rope_parameters"].map(|key| fields.get(key));
        let mut constants = vec![self.config.clone(), json!(rotary)];
        constants.extend(self.padding.map(|padding| json!({ "pad_token_id": padding })));
        let original = fields.get("original_max_position_embeddings");
        constants.extend(original.map(|original| json!({ "original_max_position_embeddings": original })));
        constants
    }
}
