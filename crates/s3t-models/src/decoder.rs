//! Models that continue texts in the manner of Llama (Touvron et al. 2023, arXiv 2302.13971): root mean square normalisation before
//! each sublayer, rotary positions, grouped heads, a gated feed-forward layer, and a head that reads a text's last token.

use s3t_peft::LinearSite;
use serde::{Deserialize, Serialize};
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
    check_positions, check_sizes, check_vocabulary, constant, token_ids,
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

/// The fields of a `config.json` that all such families have, as they enter the digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// The `model_type`.
    pub model_type: String,
    /// The number of tokens.
    pub vocab_size: usize,
    /// The width of the residual stream.
    pub hidden_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// The width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The name of the activation of the feed-forward layer.
    pub hidden_act: String,
    /// The largest number of tokens of a text.
    pub max_position_embeddings: usize,
    /// The number that is added under the roots of normalisations.
    pub rms_norm_eps: f64,
    /// True if the language head shares the embeddings of the tokens.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

impl DecoderConfig {
    /// The number of blocks, checked, so that a list with an entry for each can be made.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for a number out of range.
    pub fn blocks(&self) -> Result<usize, FieldError> {
        check_sizes(&[("num_hidden_layers", self.num_hidden_layers)])?;
        Ok(self.num_hidden_layers)
    }
}

/// A decoder, described by the fields that such families share and by its differences from the others.
#[derive(Debug, Clone)]
pub struct DecoderSpec<'a> {
    /// The name that the digest starts from.
    pub context: &'static str,
    /// The fields that all such families have.
    pub shared: DecoderConfig,
    /// The fields of the family's own that enter the digest beside them and those of rotary positions: a JSON object, which
    /// [`constant`] makes of a struct.
    pub own: Value,
    /// `num_key_value_heads`; as many as heads of queries if it is `None`.
    pub kv_heads: Option<usize>,
    /// The width of a head; the heads share the width of the residual stream if it is `None`.
    pub head_dim: Option<usize>,
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
        let config = &self.shared;
        let (heads, head_dim) = (config.num_attention_heads, self.head_dim());
        let ends = self.check().map_err(refuse)?;
        let rotary = Rotary::from_config(file.fields(), head_dim).map_err(refuse)?;
        let ends = Ends::of_causal(file, &ends, self.padding)?;
        let activation = activation_from_name("hidden_act", &config.hidden_act).map_err(refuse)?;
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let norm = |module: &'static str| NormSpec { module, kind: NormKind::Rms, epsilon: config.rms_norm_eps };
        Ok(Specification {
            constants: self.constants(file).map_err(refuse)?,
            context: self.context,
            prefix: "model.",
            names: &NAMES,
            reader: ReaderSpec::Texts {
                room: Room { vocabulary, positions: config.max_position_embeddings, types: None },
                ends,
            },
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
                hidden,
                inner: config.intermediate_size,
                heads,
                kv_heads: self.kv_heads(),
                head_dim,
                rotary: Some(rotary),
                norms: NormPlace::Before,
                attention_norm: norm("input_layernorm"),
                feed_forward_norm: norm("post_attention_layernorm"),
                activation,
                visibility: self.visibility,
                biases: self.biases,
            },
            final_norm: Some(norm("norm")),
            pooled: PooledToken::Last,
            pooler: None,
            language: Some(LanguageSpec { module: "lm_head", vocabulary, tied: config.tie_word_embeddings }),
            head: HEAD,
            unused: &["score.", "qa_outputs."],
        })
    }

    fn kv_heads(&self) -> usize {
        self.kv_heads.unwrap_or(self.shared.num_attention_heads)
    }

    fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.shared.hidden_size / self.shared.num_attention_heads.max(1))
    }

    /// Checks the fields; the tokens that end a text.
    fn check(&self) -> Result<Vec<u32>, FieldError> {
        let config = &self.shared;
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        check_sizes(&[
            ("hidden_size", hidden),
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", heads),
            ("num_key_value_heads", self.kv_heads()),
            ("head_dim", self.head_dim()),
            ("intermediate_size", config.intermediate_size),
        ])?;
        check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;
        check_key_value_heads(heads, self.kv_heads(), self.head_dim())?;
        check_epsilon("rms_norm_eps", config.rms_norm_eps)?;
        let ends = token_ids("eos_token_id", self.eos_token_id)?;
        let mut tokens: Vec<_> = ends.iter().map(|id| ("eos_token_id", Some(*id))).collect();
        tokens.push(("pad_token_id", self.padding));
        check_vocabulary(config.vocab_size, &tokens)?;
        check_positions(config.max_position_embeddings)?;
        activation_from_name("hidden_act", &config.hidden_act)?;
        Ok(ends)
    }

    /// The constants of the digest. Fields that were read after the digests of stores were defined are added where they are there.
    fn constants(&self, file: &ModelFile) -> Result<Vec<Value>, FieldError> {
        let fields = file.fields();
        let mut config = constant(&self.shared)?;
        if let (Value::Object(config), Value::Object(own)) = (&mut config, &self.own) {
            config.extend(own.clone());
        }
        let rotary = ["rope_theta", "rope_scaling", "rope_parameters"].map(|key| fields.get(key));
        let mut constants = vec![config, json!(rotary)];
        constants.extend(self.padding.map(|padding| json!({ "pad_token_id": padding })));
        let original = fields.get("original_max_position_embeddings");
        constants.extend(original.map(|original| json!({ "original_max_position_embeddings": original })));
        Ok(constants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_blocks_that_no_memory_holds_is_refused() {
        let config = json!({
            "model_type": "toy", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": usize::MAX, "num_attention_heads": 1,
            "intermediate_size": 4, "hidden_act": "silu", "max_position_embeddings": 8, "rms_norm_eps": 1e-6
        });
        let config: DecoderConfig = serde_json::from_value(config).unwrap();
        let refused = config.blocks().unwrap_err().to_string();
        assert_eq!(refused, "`num_hidden_layers` is 18446744073709551615; it takes 1 to 131072");
    }
}
