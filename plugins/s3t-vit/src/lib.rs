//! Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) in the layout of Hugging Face `ViTModel`.

use std::path::Path;

use s3t_models::fields::{self, Field, FieldTable};
use s3t_models::pictures::{PictureReader, PictureShape, Preprocessing};
use s3t_models::s3t_peft::{HostTensor, NamedTensors};
use s3t_models::serde_json::{self, Value};
use s3t_models::{
    BlockSpec, Classes, EmbeddingSpec, FieldError, HeadLayout, LinearSite, ModelError, ModelFamily, ModelFile,
    ModuleNames, NormKind, NormPlace, NormSpec, PatchSpec, PooledToken, ReaderSpec, Specification, Visibility,
    activation_from_name, check_epsilon, check_heads, check_sizes, constant, model_family, write_safetensors,
};
use serde::{Deserialize, Serialize};

/// Vision transformers.
pub static VIT: ModelFamily = ModelFamily {
    model_type: "vit",
    documentation: "Vision transformers: pictures as patches, pre-norm blocks, the class token goes to the head.",
    fields: FieldTable::of_config(
        "vit",
        "ViTConfig of transformers 5.24",
        &[fields::COMMON, fields::SIZES, fields::NO_WINDOWS, fields::TRAINING, fields::ENCODER, FIELDS],
    ),
    classes: Classes { heads: &["ViTForImageClassification"], others: &["ViTModel", "ViTForMaskedImageModeling"] },
    specify,
};

model_family!(VIT);

const FIELDS: &[Field] = &[
    fields::size("image_size"),
    fields::size("patch_size"),
    fields::size("num_channels"),
    Field::honoured("qkv_bias", "compared with the tensors"),
    Field::harmless("encoder_stride", "of masked image modelling"),
    Field::harmless("pooler_output_size", "of a pooler that no head of this family reads"),
    Field::harmless("pooler_act", "of a pooler that no head of this family reads"),
    Field::only("head_dim", &[], "heads are `hidden_size` / `num_attention_heads` wide"),
];

/// Modules as in the files of models, and as from version 5 of `transformers` on in memory and in adapters.
const NAMES: [ModuleNames; 2] = [
    ModuleNames { blocks: "vit.encoder.layer", linears: &MODULES },
    ModuleNames { blocks: "vit.layers", linears: &NEW_MODULES },
];

const MODULES: [(LinearSite, &str); 6] = [
    (LinearSite::Query, "attention.attention.query"),
    (LinearSite::Key, "attention.attention.key"),
    (LinearSite::Value, "attention.attention.value"),
    (LinearSite::Output, "attention.output.dense"),
    (LinearSite::Up, "intermediate.dense"),
    (LinearSite::Down, "output.dense"),
];

const NEW_MODULES: [(LinearSite, &str); 6] = [
    (LinearSite::Query, "attention.q_proj"),
    (LinearSite::Key, "attention.k_proj"),
    (LinearSite::Value, "attention.v_proj"),
    (LinearSite::Output, "attention.o_proj"),
    (LinearSite::Up, "mlp.fc1"),
    (LinearSite::Down, "mlp.fc2"),
];

const HEAD: HeadLayout = HeadLayout { dense: None, output: "classifier", bias: true };

/// The part of a ViT's `config.json` that decides what it computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Always `vit`.
    pub model_type: String,
    /// The width of the residual stream.
    pub hidden_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// The width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The activation: `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu` or `silu`.
    pub hidden_act: String,
    /// The epsilon of layer normalisation.
    pub layer_norm_eps: f64,
    /// Height and width of the images in pixels.
    pub image_size: usize,
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
    /// Colour channels.
    pub num_channels: usize,
    /// True if query, key and value have a bias.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
}

fn yes() -> bool {
    true
}

impl VitConfig {
    /// Checks that the values are possible together.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for the first field that cannot be used.
    pub fn check(&self) -> Result<(), FieldError> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
        ])?;
        activation_from_name("hidden_act", &self.hidden_act)?;
        check_heads(("hidden_size", self.hidden_size), ("num_attention_heads", self.num_attention_heads))?;
        if !self.image_size.is_multiple_of(self.patch_size) {
            let problem = format!("{} is not a multiple of `patch_size` {}", self.image_size, self.patch_size);
            return Err(FieldError::new("image_size", problem));
        }
        if self.num_channels > usize::from(u8::MAX) {
            let problem = format!("is {}; it takes 1 to {}", self.num_channels, u8::MAX);
            return Err(FieldError::new("num_channels", problem));
        }
        check_epsilon("layer_norm_eps", self.layer_norm_eps)
    }

    /// The pictures.
    pub fn pictures(&self) -> PictureShape {
        PictureShape { side: self.image_size, channels: self.num_channels }
    }

    fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// The description of the model with an image processor.
    ///
    /// # Errors
    ///
    /// The errors of [`check`](Self::check).
    pub fn specify(&self, preprocessing: Preprocessing) -> Result<Specification, FieldError> {
        self.check()?;
        let constants = vec![constant(self)?, constant(&preprocessing)?];
        let pictures = PictureReader::new(self.pictures(), self.patches() + 1, preprocessing);
        let norm = |module: &'static str| NormSpec { module, kind: NormKind::Layer, epsilon: self.layer_norm_eps };
        let hidden = self.hidden_size;
        let mut biases = vec![LinearSite::Output, LinearSite::Up, LinearSite::Down];
        if self.qkv_bias {
            biases.extend([LinearSite::Query, LinearSite::Key, LinearSite::Value]);
        }
        Ok(Specification {
            constants,
            context: "vit",
            prefix: "vit.",
            names: &NAMES,
            embedding: EmbeddingSpec::Patches(PatchSpec {
                class_token: "embeddings.cls_token",
                positions: "embeddings.position_embeddings",
                projection: "embeddings.patch_embeddings.projection",
                patch: self.patch_size,
                hidden,
                pictures: pictures.clone(),
            }),
            reader: ReaderSpec::Pictures(pictures),
            blocks: BlockSpec {
                visibility: vec![Visibility::Full; self.num_hidden_layers],
                hidden,
                inner: self.intermediate_size,
                heads: self.num_attention_heads,
                kv_heads: self.num_attention_heads,
                head_dim: hidden / self.num_attention_heads,
                rotary: None,
                norms: NormPlace::Before,
                attention_norm: norm("layernorm_before"),
                feed_forward_norm: norm("layernorm_after"),
                activation: activation_from_name("hidden_act", &self.hidden_act)?,
                biases,
            },
            final_norm: Some(norm("layernorm")),
            pooled: PooledToken::First,
            pooler: None,
            language: None,
            head: HEAD,
            unused: &["classifier.", "pooler.", "vit.pooler."],
        })
    }
}

fn specify(file: &ModelFile) -> Result<Specification, ModelError> {
    let mut fields = file.fields().clone();
    // A side may be given as height and width.
    for side in ["image_size", "patch_size"] {
        let pair = fields.get(side).and_then(Value::as_array).filter(|pair| pair.len() == 2);
        if let Some(equal) = pair.filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()) {
            fields.insert(side.into(), equal);
        }
    }
    let config: VitConfig = file.parse_fields(fields)?;
    config.check().map_err(|error| file.refuse(error))?;
    let preprocessing = file.preprocessing(config.pictures())?;
    config.specify(preprocessing).map_err(|error| file.refuse(error))
}

/// Tensors for a ViT of this shape, `value` giving each weight: for pre-training and for tests. Layer norms start as the
/// identity, biases at zero.
pub fn random_vit_tensors(config: &VitConfig, mut value: impl FnMut() -> f32) -> NamedTensors {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.cls_token".into(), vec![1, 1, hidden]),
        ("embeddings.position_embeddings".into(), vec![1, config.patches() + 1, hidden]),
        (
            "embeddings.patch_embeddings.projection.weight".into(),
            vec![hidden, config.num_channels, config.patch_size, config.patch_size],
        ),
        ("embeddings.patch_embeddings.projection.bias".into(), vec![hidden]),
    ];
    for index in 0..config.num_hidden_layers {
        let mut linear = |name: &str, outputs: usize, inputs: usize, bias: bool| {
            shapes.push((format!("encoder.layer.{index}.{name}.weight"), vec![outputs, inputs]));
            if bias {
                shapes.push((format!("encoder.layer.{index}.{name}.bias"), vec![outputs]));
            }
        };
        for part in ["query", "key", "value"] {
            linear(&format!("attention.attention.{part}"), hidden, hidden, config.qkv_bias);
        }
        linear("attention.output.dense", hidden, hidden, true);
        linear("intermediate.dense", inner, hidden, true);
        linear("output.dense", hidden, inner, true);
        for norm in ["layernorm_before", "layernorm_after"] {
            shapes.push((format!("encoder.layer.{index}.{norm}.weight"), vec![hidden]));
            shapes.push((format!("encoder.layer.{index}.{norm}.bias"), vec![hidden]));
        }
    }
    shapes.push(("layernorm.weight".into(), vec![hidden]));
    shapes.push(("layernorm.bias".into(), vec![hidden]));
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let length = shape.iter().product();
        let norm_weight = name.contains("layernorm") && name.ends_with("weight");
        let values = match () {
            () if norm_weight => vec![1.0; length],
            () if name.ends_with("bias") => vec![0.0; length],
            () => (0..length).map(|_| value()).collect(),
        };
        (name, HostTensor { shape, values })
    };
    shapes.into_iter().map(tensor).collect()
}

/// Writes a ViT as a Hugging Face directory: `config.json`, `preprocessor_config.json`, `model.safetensors`.
///
/// # Errors
///
/// [`ModelError::Write`] naming the file.
pub fn write_vit(
    directory: &Path,
    config: &VitConfig,
    preprocessing: &Preprocessing,
    tensors: &NamedTensors,
) -> Result<(), ModelError> {
    let write = |name: &str, value: serde_json::Value| {
        let path = directory.join(name);
        let text = format!("{value:#}\n");
        std::fs::write(&path, text).map_err(|cause| ModelError::Write { path, cause })
    };
    std::fs::create_dir_all(directory).map_err(|cause| ModelError::Write { path: directory.into(), cause })?;
    let path = directory.join("config.json");
    let mut config_json = constant(config).map_err(|error| ModelError::Field { path, error })?;
    config_json["architectures"] = serde_json::json!(["ViTModel"]);
    write("config.json", config_json)?;
    write("preprocessor_config.json", preprocessing.to_json(config.pictures()))?;
    write_safetensors(&directory.join("model.safetensors"), tensors)
}
