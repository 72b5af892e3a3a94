//! Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) in the layout of Hugging Face `ViTModel`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, Payload, PictureInput, Record};
use s3t_kernels::Activation;
use s3t_peft::{HostTensor, Linear, LinearSite, NamedTensors};
use serde::{Deserialize, Serialize};

use crate::block::{BlockDesign, Norm, activation_from_name};
use crate::huggingface::{ModelFile, check_epsilon, check_sizes};
use crate::weights::{Loader, transposed, write_safetensors};
use crate::{Backbone, BackendError, HeadLayout, Hidden, Input, ModuleNames, OwnHead, Preprocessing, TransformerBlock};

const MODULES: [(LinearSite, &str); 6] = [
    (LinearSite::Query, "attention.attention.query"),
    (LinearSite::Key, "attention.attention.key"),
    (LinearSite::Value, "attention.attention.value"),
    (LinearSite::Output, "attention.output.dense"),
    (LinearSite::Up, "intermediate.dense"),
    (LinearSite::Down, "output.dense"),
];

/// What `transformers` calls them from version 5 on, in memory and in adapters; files of models keep the names above.
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
    /// Whether query, key and value have a bias.
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
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        check_sizes(&[
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.num_channels),
        ])?;
        activation_from_name(&self.hidden_act)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(format!(
                "`image_size` {} is not a multiple of `patch_size` {}",
                self.image_size, self.patch_size
            ));
        }
        if self.num_channels > usize::from(u8::MAX) {
            return Err(format!("`num_channels` is {}; it takes 1 to {}", self.num_channels, u8::MAX));
        }
        check_epsilon("layer_norm_eps", self.layer_norm_eps)
    }

    /// The activation, of a configuration that was checked.
    fn activation(&self) -> Activation {
        activation_from_name(&self.hidden_act).unwrap_or(Activation::Gelu)
    }

    fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    fn patch_values(&self) -> usize {
        self.num_channels * self.patch_size * self.patch_size
    }

    fn values(&self) -> usize {
        self.num_channels * self.image_size * self.image_size
    }
}

/// A frozen vision transformer.
pub struct Vit {
    config: VitConfig,
    preprocessing: Preprocessing,
    pictures: PictureInput,
    digest: Digest,
    /// `[1, hidden]`, with its position already added.
    class_token: Tensor<2>,
    /// `[patches, hidden]`.
    positions: Tensor<2>,
    projection: Linear,
    blocks: Vec<TransformerBlock>,
    norm: Norm,
    classifier: Option<NamedTensors>,
    own_head: OwnHead,
    device: Device,
}

impl Vit {
    /// Loads the weights of a folder.
    pub(crate) fn load(
        file: &ModelFile,
        config: VitConfig,
        preprocessing: Preprocessing,
        device: &Device,
    ) -> Result<Self, BackendError> {
        // `ViTForImageClassification` puts everything but the classifier under `vit.`; `ViTModel` does not.
        let mut loader = Loader::open(&file.directory, "vit.", "vit", &file.options.limits, device)?;
        loader.digest_json(&serde_json::to_value(&config).unwrap_or_default());
        loader.digest_json(&serde_json::to_value(&preprocessing).unwrap_or_default());
        let mut vit = Self::assemble(config, preprocessing, &mut loader, device)?;
        vit.classifier = file.head(&mut loader, HEAD, vit.config.hidden_size)?;
        vit.own_head = file.own_head.clone();
        vit.digest = loader.finish(&["classifier.", "pooler.", "vit.pooler."])?;
        Ok(vit)
    }

    /// Builds a model on flat tensors by their Hugging Face names, which may be tracked for gradients: for pre-training.
    ///
    /// Its digest names the configuration only. Write the trained tensors with [`write_vit`] and load them to get a model
    /// that stages can be built on.
    ///
    /// # Errors
    ///
    /// [`BackendError::MissingTensors`] naming the first tensor that is not there.
    pub fn from_tensors(
        config: VitConfig,
        preprocessing: Preprocessing,
        tensors: &BTreeMap<String, Tensor<1>>,
        device: &Device,
    ) -> Result<Self, BackendError> {
        let mut loader = Loader::in_memory(tensors, "vit", device);
        Self::assemble(config, preprocessing, &mut loader, device)
    }

    fn assemble(
        config: VitConfig,
        preprocessing: Preprocessing,
        loader: &mut Loader<'_>,
        device: &Device,
    ) -> Result<Self, BackendError> {
        let (hidden, inner, patches) = (config.hidden_size, config.intermediate_size, config.patches());
        let class_token = loader.tensor("embeddings.cls_token", &[1, 1, hidden])?.reshape([1, hidden]);
        let positions = loader.tensor("embeddings.position_embeddings", &[1, patches + 1, hidden])?;
        let positions = positions.reshape([patches + 1, hidden]);
        let patch = [hidden, config.num_channels, config.patch_size, config.patch_size];
        let weight = loader.tensor("embeddings.patch_embeddings.projection.weight", &patch)?;
        let projection = Linear {
            weight: transposed(weight, [hidden, config.patch_values()]),
            bias: Some(loader.tensor("embeddings.patch_embeddings.projection.bias", &[hidden])?),
        };
        let heads = config.num_attention_heads;
        let design = Arc::new(BlockDesign {
            heads,
            kv_heads: heads,
            head_dim: hidden / heads,
            post_norm: false,
            activation: config.activation(),
            causal: false,
            rotary: None,
            modules: &MODULES,
        });
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let mut linear = |site: usize, inputs: usize, outputs: usize| {
                loader.linear(&name(MODULES[site].1), inputs, outputs, site > 2 || config.qkv_bias)
            };
            blocks.push(TransformerBlock {
                query: linear(0, hidden, hidden)?,
                key: linear(1, hidden, hidden)?,
                value: linear(2, hidden, hidden)?,
                output: linear(3, hidden, hidden)?,
                gate: None,
                up: linear(4, hidden, inner)?,
                down: linear(5, inner, hidden)?,
                attention_norm: loader.layer_norm(&name("layernorm_before"), hidden, config.layer_norm_eps)?,
                feed_forward_norm: loader.layer_norm(&name("layernorm_after"), hidden, config.layer_norm_eps)?,
                design: Arc::clone(&design),
            });
        }
        let norm = loader.layer_norm("layernorm", hidden, config.layer_norm_eps)?;
        let first = positions.clone().slice([0..1, 0..hidden]);
        let digest = DigestBuilder::new("vit").json(&serde_json::to_value(&config).unwrap_or_default()).finish();
        Ok(Self {
            class_token: class_token + first,
            positions: positions.slice([1..patches + 1, 0..hidden]),
            pictures: preprocessing.pictures(&config),
            config,
            preprocessing,
            digest,
            projection,
            blocks,
            norm,
            classifier: None,
            own_head: OwnHead::default(),
            device: device.clone(),
        })
    }

    /// One record's patches, `[patches, channels * patch * patch]` in row-major order, appended to `values`.
    fn push_patches(&self, record: &Record, values: &mut Vec<f32>) {
        let VitConfig { image_size, patch_size, num_channels, .. } = self.config;
        let grid = image_size / patch_size;
        let pixel = |channel: usize, y: usize, x: usize| match &record.payload {
            Payload::Image { pixels, .. } => {
                let value = f64::from(pixels[(y * image_size + x) * num_channels + channel]);
                let scaled = value * self.preprocessing.rescale_factor - self.preprocessing.image_mean[channel];
                (scaled / self.preprocessing.image_std[channel]) as f32
            }
            Payload::Features(features) => features[(channel * image_size + y) * image_size + x],
            Payload::Text(_) | Payload::TextPair(..) => unreachable!("checked records are images or features"),
        };
        for (patch_y, patch_x) in (0..grid).flat_map(|y| (0..grid).map(move |x| (y, x))) {
            for channel in 0..num_channels {
                for y in 0..patch_size {
                    let row =
                        (0..patch_size).map(|x| pixel(channel, patch_y * patch_size + y, patch_x * patch_size + x));
                    values.extend(row);
                }
            }
        }
    }
}

impl Backbone for Vit {
    fn model_type(&self) -> &str {
        &self.config.model_type
    }

    fn transformer_blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    fn hidden(&self) -> usize {
        self.config.hidden_size
    }

    fn max_tokens(&self) -> usize {
        self.config.patches() + 1
    }

    fn image_input(&self) -> Option<&PictureInput> {
        Some(&self.pictures)
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn head(&self) -> HeadLayout {
        HEAD
    }

    fn classifier(&self) -> Option<&NamedTensors> {
        self.classifier.as_ref()
    }

    fn own_head(&self) -> &OwnHead {
        &self.own_head
    }

    fn module_names(&self) -> &'static [ModuleNames] {
        const {
            &[
                ModuleNames { blocks: "vit.encoder.layer", linears: &MODULES },
                ModuleNames { blocks: "vit.layers", linears: &NEW_MODULES },
            ]
        }
    }

    fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, BackendError> {
        let VitConfig { image_size, num_channels, .. } = self.config;
        let fits = match &record.payload {
            Payload::Image { width, height, channels, pixels } => {
                (*width as usize, *height as usize, usize::from(*channels)) == (image_size, image_size, num_channels)
                    && pixels.len() == self.config.values()
            }
            Payload::Features(features) => {
                features.len() == self.config.values() && features.iter().all(|value| value.is_finite())
            }
            Payload::Text(_) | Payload::TextPair(..) => false,
        };
        if fits {
            let tokens = self.max_tokens();
            return Ok(Input {
                record,
                ids: Vec::new(),
                prompt: 0,
                types: Vec::new(),
                cut: 0,
                tokens,
                length: tokens,
                padded: tokens,
            });
        }
        let expected = format!(
            "{image_size}x{image_size}x{num_channels} images, or {} finite features as channel, row, column",
            self.config.values()
        );
        Err(BackendError::WrongInput { record: record.id.to_string(), found: record.payload.describe(), expected })
    }

    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let (batch, patches, hidden) = (inputs.len(), self.config.patches(), self.config.hidden_size);
        debug_assert_eq!(tokens, patches + 1, "all images have as many tokens");
        let mut values = Vec::with_capacity(batch * self.config.values());
        for input in inputs {
            self.push_patches(input.record, &mut values);
        }
        let pixels = TensorData::new(values, [batch * patches, self.config.patch_values()]);
        let embedded =
            self.projection.forward(Tensor::from_data(pixels, &self.device)).reshape([batch, patches, hidden]);
        let embedded = embedded + self.positions.clone().unsqueeze::<3>();
        let class = self.class_token.clone().unsqueeze::<3>().expand([batch, 1, hidden]);
        Hidden::new(Tensor::cat(vec![class, embedded], 1), vec![patches + 1; batch])
    }

    fn pooled_tokens(&self, hidden: &Hidden) -> Vec<usize> {
        vec![0; hidden.lengths.len()]
    }

    fn pool(&self, hidden: Hidden) -> Tensor<2> {
        let [batch, _, width] = hidden.states.dims();
        // Layer normalisation works row by row, so normalising the class token alone gives the same numbers.
        self.norm.forward(hidden.states.slice([0..batch, 0..1, 0..width]).reshape([batch, width]))
    }
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
/// [`BackendError::Write`] naming the file.
pub fn write_vit(
    directory: &Path,
    config: &VitConfig,
    preprocessing: &Preprocessing,
    tensors: &NamedTensors,
) -> Result<(), BackendError> {
    let write = |name: &str, value: serde_json::Value| {
        let path = directory.join(name);
        let text = format!("{value:#}\n");
        std::fs::write(&path, text).map_err(|source| BackendError::Write { path, source })
    };
    std::fs::create_dir_all(directory).map_err(|source| BackendError::Write { path: directory.into(), source })?;
    let mut config_json = serde_json::to_value(config).unwrap_or_default();
    config_json["architectures"] = serde_json::json!(["ViTModel"]);
    write("config.json", config_json)?;
    write("preprocessor_config.json", preprocessing.to_json(config))?;
    write_safetensors(&directory.join("model.safetensors"), tensors)
}
