//! Frozen base models, put together from parts: the trait crate of model families.
//!
//! A [`ModelFamily`] reads the `config.json` of its `model_type` and answers with a [`Specification`]: the sizes, the names of
//! modules, the kinds of its parts. [`load`] finds the family of a folder in the registry and assembles a [`Backbone`] from the
//! specification, one tensor at a time; its weights are never written to. The blocks of a [`Backbone`] can be run from block i to
//! block j with [`Adapters`](s3t_peft::Adapters) switched on.
//!
//! A crate with a family depends on this crate alone, and registers the family with [`model_family!`].

mod attention;
mod backbone;
mod block;
mod checks;
mod decoder;
mod embedding;
mod error;
mod family;
mod feed_forward;
pub mod fields;
mod head;
mod input;
mod json_file;
mod model_file;
mod norm;
mod own_head;
pub mod pictures;
mod pooling;
mod precision;
mod rotary;
mod specification;
mod text;
mod weights;

pub use attention::{Attention, Visibility};
pub use backbone::Backbone;
pub use block::{BlockDesign, NormPlace, TransformerBlock};
pub use checks::{
    activation_from_name, check_epsilon, check_heads, check_key_value_heads, check_positions, check_sizes,
    check_vocabulary, constant, token_ids,
};
pub use decoder::{DecoderConfig, DecoderSpec};
pub use embedding::{
    Counting, Embedding, PatchEmbedding, PatchSpec, PositionSpec, TokenEmbedding, TokenEmbeddingSpec, TypeSpec,
};
pub use error::{FieldError, ModelError};
pub use family::{
    ModelFamily, RegisteredFamily, families, field_tables, is_class_for_records, known_classes, load, picture_input,
};
pub use feed_forward::FeedForward;
pub use head::{DenseLayer, Head, HeadActivation, HeadLayout, head_outputs};
pub use input::{Hidden, Input};
pub use json_file::open_file;
pub use model_file::{LoadOptions, ModelFile};
pub use norm::{Norm, NormKind, NormSpec};
pub use own_head::{Classes, OwnHead};
pub use pooling::{PooledToken, Pooler};
pub use rotary::Rotary;
pub use specification::{BlockSpec, EmbeddingSpec, LanguageSpec, ModuleNames, PoolerSpec, ReaderSpec, Specification};
pub use text::{ChatTemplate, Ends, Room, TextEncoder};
pub use weights::{Loader, read_safetensors, safetensors_names, write_safetensors};

pub use precision::{Precision, WeightFormat};
pub use s3t_core::chat::{Message, Role};
pub use s3t_kernels::Activation;
pub use s3t_peft::{Device, Linear, LinearSite, Tensor};
pub use {burn, s3t_core, s3t_peft, serde_json};
